"""Our TFLite files against those of onnx2tf and litert-torch: speed, conversion, graph and exactness, side by side.

    .venv/bin/python benchmarks/tflite.py [--models efficientvit_m0,efficientvit_m5] [--work DIR] [--json FILE]

Models get random weights with BatchNorm's statistics from images, 224 px and batch 1. Every file has its channels
last and takes and gives floats, but for ai-edge-quantizer's static int8, whose recipe makes these integers too:

- ours: all precisions that the direct writer has;
- onnx2tf: fp32 and fp16 as `onnx2tf -i model.onnx` writes them from the eager model's export (fp32 is what the others
  are divided by), and way A, `--via onnx2tf`, from the graph that we convert: fp32, dynamic range and int8;
- litert-torch: fp32, and ai-edge-quantizer's weight-only, dynamic and static int8, in an environment of its own, which
  is made in the user's cache unless --peers-python names one.

Speed: every engine (LiteRT here and in the peers' environment, tflite-runtime) with each number of threads is measured
in --processes fresh processes, all settings in turns. One process opens all files and times them round by round in
random order; a file counts with its median, its ratio is that to the first file in the same process, and the table has
the median over processes with its exact interval. The first file runs a second time as another one (A/A): what its
ratio is off 1, others' can be too. A file whose answers are not the eager model's on 64 photograph crops stands in
brackets.

Conversions take a fresh process each, ours the median of three. The peers' files stay in --work (in the user's cache
by default) with what they cost; a second run only measures. --again makes them again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.tflite_parts import environment, files, measure, tables
    from benchmarks.tflite_parts.child import Failed
else:  # a script finds what lies beside it
    from tflite_parts import environment, files, measure, tables
    from tflite_parts.child import Failed

TOOLS = ("ours", "onnx2tf", "litert-torch")

Say = Callable[[str], None]


def peers_of(arguments: argparse.Namespace, say: Say) -> tuple[str | None, dict[str, str], str | None]:
    """The interpreter of the peers' environment, the versions there, and why there is none."""
    if "litert-torch" not in arguments.tools:
        return None, {}, "not asked for"
    say("litert-torch: its environment (a first time takes minutes)")
    try:
        python = environment.python_of_peers(arguments.peers_python)
        return python, environment.versions_of_peers(python), None
    except Failed as error:
        say(f"without litert-torch: {error}")
        return None, {}, str(error)


def described(made: files.Made) -> dict[str, Any]:
    """What a model's files are, before any of them runs."""
    present = [entry.name for entry in made.entries if entry.name in made.costs]
    graphs = {
        name: {"size_bytes": made.path(name).stat().st_size, "operators": measure.histogram(made.path(name))}
        for name in present
    }
    return {
        "classes": made.classes,
        "entries": [asdict(entry) for entry in made.entries],
        "costs": made.costs,
        "missing": made.missing,
        "graphs": graphs,
        "proofs": {},
        "refused": {},
        "trials": {},
    }


def prove(made: files.Made, model: dict[str, Any], engines: Sequence[measure.Engine], advance: Say) -> None:
    """Ask every file in every engine, and note what it said or why it could not."""
    for engine in engines:
        proofs, refused = model["proofs"].setdefault(engine.label, {}), model["refused"].setdefault(engine.label, {})
        for entry in (entry for entry in made.entries if entry.name in made.costs):
            advance(f"{engine.label}: {entry.label}")
            try:
                proofs[entry.name] = asdict(measure.prove(made, entry, engine))
            except Failed as error:
                refused[entry.name] = str(error)


def time_all(
    record: dict[str, Any],
    made: Mapping[str, files.Made],
    engines: Sequence[measure.Engine],
    arguments: argparse.Namespace,
    advance: Say,
) -> None:
    settings = [
        measure.Setting(model=model, engine=engine, threads=threads)
        for model in made
        for engine in engines
        for threads in arguments.threads
    ]
    for setting in settings:
        record["models"][setting.model]["trials"].setdefault(setting.engine.label, {})[str(setting.threads)] = []
    for setting, seed in measure.order(settings, processes=arguments.processes, seed=arguments.seed):
        model, label = record["models"][setting.model], setting.engine.label
        advance(f"{setting.model}, {label}, {setting.threads} threads")
        names = _baseline_first(list(model["proofs"][label]))
        trials = model["trials"][label][str(setting.threads)]
        try:
            trials.append(measure.trial(setting, made[setting.model], names, seconds=arguments.seconds, seed=seed))
        except Failed as error:
            model["refused"][label][f"{setting.threads} threads"] = str(error)


def _baseline_first(names: list[str]) -> list[str]:
    baseline = measure.baseline_of(names)
    return sorted(names, key=lambda name: name != baseline)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from evit_edge.device_bench.fingerprint import this_machine
    from evit_edge.edge import show

    peers, versions, reason = peers_of(arguments, show.note)
    made = {}
    for name in arguments.models:
        wanted = files.groups(name, peers=peers, onnx2tf="onnx2tf" in arguments.tools, versions=versions)
        folder = arguments.work / name
        made[name] = files.make(
            name, folder, wanted, calibration=arguments.calibration, again=arguments.again, on_step=show.note
        )
    engines = measure.engines(peers, show.note)
    record: dict[str, Any] = {
        "command": sys.argv,
        "machine": this_machine("local").model_dump(mode="json"),
        "peers": {"python": peers, "versions": versions, "missing": reason},
        "engines": [engine.label for engine in engines],
        "models": {name: described(files_of) for name, files_of in made.items()},
    }
    checks = sum(len(files_of.costs) for files_of in made.values()) * len(engines)
    show.note(f"{checks} checks of {', '.join(record['engines'])}")
    with show.counting(False, checks) as advance:
        for name, files_of in made.items():
            prove(files_of, record["models"][name], engines, advance)
    total = len(made) * len(engines) * len(arguments.threads) * arguments.processes
    show.note(f"{total} processes of timing")
    with show.counting(False, total) as advance:
        time_all(record, made, engines, arguments, advance)
    return record


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    def listed(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=listed, default=["efficientvit_m0", "efficientvit_m5"])
    parser.add_argument("--tools", type=listed, default=list(TOOLS), help=f"of {','.join(TOOLS)}; ours always")
    parser.add_argument("--threads", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2])
    parser.add_argument("--processes", type=int, default=10, help="for each engine and number of threads")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each file in each process")
    parser.add_argument("--calibration", type=int, default=64, help="images for int8, the same for every tool")
    parser.add_argument("--seed", type=int, default=0, help="of the orders")
    parser.add_argument("--work", type=Path, help="where the files are made and kept")
    parser.add_argument("--peers-python", type=Path, help="an interpreter that has litert-torch")
    parser.add_argument("--again", action="store_true", help="convert again what an earlier run left")
    parser.add_argument("--quick", action="store_true", help="a smoke run: M0, our files alone, two short processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    arguments = parser.parse_args(words)
    if arguments.quick:
        quick = {"models": ["efficientvit_m0"], "tools": ["ours"], "threads": [1], "processes": 2, "seconds": 0.1}
        vars(arguments).update(quick, calibration=4)
    if foreign := set(arguments.tools) - set(TOOLS):
        parser.error(f"--tools knows {', '.join(TOOLS)}, and not {', '.join(sorted(foreign))}")
    return arguments


def main() -> None:
    from evit_edge.models.download import cache_folder

    arguments = parsed()
    arguments.work = arguments.work or cache_folder() / "benchmarks" / "tflite"
    record = run(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1))
    tables.show(record)


if __name__ == "__main__":
    main()
