"""What is built is what is used: the wheel holds every module, the demo weights and the console script."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("edge", "converters", "models", "device_bench")


def test_the_wheel_holds_every_module_and_the_demo_weights(tmp_path: Path) -> None:
    # A copy: the back end leaves a build folder behind, whose files would be in the next wheel too.
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "demo-out", "*.egg-info", "__pycache__")
    copy = shutil.copytree(ROOT, tmp_path / "copy", symlinks=True, ignore=unwanted)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    modules = {f"evit_edge/{file.relative_to(ROOT)}" for room in ROOMS for file in (ROOT / room).rglob("*.py")}
    assert modules <= held
    assert {"evit_edge/py.typed", "evit_edge/models/efficientvit_m0_digits.safetensors"} <= held
    assert "evit_edge/device_bench/report/page.html" in held
    entry_points = next(name for name in held if name.endswith("entry_points.txt"))
    assert b"evit-edge = evit_edge.edge.cli:main" in zipfile.ZipFile(wheel).read(entry_points)


def test_versions_agree() -> None:
    import evit_edge

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == evit_edge.__version__
    assert f"## [{evit_edge.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def sources() -> list[Path]:
    return [file for folder in (*ROOMS, "benchmarks", "tests") for file in sorted((ROOT / folder).rglob("*.py"))]


def test_no_file_is_too_long_to_read() -> None:
    lengths = {file: len(file.read_text().splitlines()) for file in sources()}
    assert {str(file): length for file, length in lengths.items() if length > 300} == {}


def test_no_function_is_longer_than_40_lines() -> None:
    functions = [
        (f"{file.name}:{node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for file in sources()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert {name: length for name, length in functions if length > 40} == {}
