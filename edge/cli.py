"""The Typer app: the table of contents, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

import typer

from ..models.errors import EdgeError
from . import (
    cmd_bench,
    cmd_compare,
    cmd_convert,
    cmd_devices,
    cmd_doctor,
    cmd_eval,
    cmd_inspect,
    cmd_models,
    cmd_parity,
    cmd_predict,
    cmd_profile,
    cmd_quant_report,
    cmd_report,
    cmd_run,
)

INTERRUPTED: Final = 130

app = typer.Typer(
    name="evit-edge",
    help="Convert trained vision models for phones and boards, prove that they still compute the same, measure them.",
    epilog="Exit codes: 0 done, 2 usage, 3 something needed is missing, 4 conversion failed, 5 parity failed, "
    "6 not the precision asked for, 7 measurement invalid, 8 regression, 9 device failed, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("models")(cmd_models.models)
app.command("convert")(cmd_convert.convert)
app.command("parity")(cmd_parity.parity)
app.command("inspect")(cmd_inspect.inspect)
app.command("eval")(cmd_eval.evaluate)
app.command("quant-report")(cmd_quant_report.quant_report)
app.command("bench")(cmd_bench.bench)
app.command("run")(cmd_run.run)
app.command("compare")(cmd_compare.compare)
app.command("report")(cmd_report.report)
app.command("profile")(cmd_profile.profile)
app.command("predict")(cmd_predict.predict)
app.command("devices")(cmd_devices.devices)
app.command("doctor")(cmd_doctor.doctor)


def main() -> None:
    """The console script `evit-edge`."""
    _clean_up_when_told_to_end()
    try:
        status = app(prog_name="evit-edge", standalone_mode=False)
    except EdgeError as error:
        _say(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would complain once more while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if not hasattr(error, "exit_code") or not hasattr(error, "show"):
            raise
        error.show()
        sys.exit(error.exit_code)
    # Without its standalone mode the framework returns a command's exit code, 130 after Ctrl-C, instead of leaving.
    if status == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    sys.exit(status or 0)


def _clean_up_when_told_to_end() -> None:
    # A closed terminal or `kill` must leave as little behind as Ctrl-C does.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)


def _say(error: EdgeError) -> None:
    from . import show

    if "--json" in sys.argv:
        show.json({"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}})
    show.error(error, verbose=bool({"-v", "--verbose"} & set(sys.argv)))
