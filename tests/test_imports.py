"""The command line answers at once: nothing heavy is imported before a command needs it."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "sklearn", "tensorflow", "coremltools", "PIL")


@pytest.mark.parametrize("arguments", [["--help"], ["convert", "--help"], ["bench", "--help"], ["report", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        f"sys.argv = ['evit-edge', *{arguments!r}]\n"
        "from evit_edge.edge.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Usage: evit-edge" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_the_package_alone_imports_nothing_heavy() -> None:
    program = f"import sys, evit_edge; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
