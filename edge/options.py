"""Options that several commands share, with the words that `--help` prints for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Artifacts = Annotated[list[Path], typer.Argument(metavar="ARTIFACT…", help="Folders that `convert` wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Pure JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="On failure, also what the failing tool printed.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn at random.")]
