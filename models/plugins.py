"""Plug-ins are files: `to_onnx.py` in the converters' folder is the target `onnx`, and nothing else lists it."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import MissingDependency, UnknownName


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginKind:
    """One kind of plug-in: the files `<prefix>*.py` of `package`, each of which defines `attribute`."""

    noun: str
    package: str
    prefix: str
    attribute: str

    def names(self) -> list[str]:
        """Names by listing files; imports none of them."""
        spec = importlib.util.find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        files = (file for folder in folders or () for file in Path(folder).glob(f"{self.prefix}*.py"))
        return sorted(file.stem.removeprefix(self.prefix) for file in files)

    def load(self, name: str) -> Any:
        """The plug-in called `name`, hyphens or underscores alike.

        Raises `UnknownName`, or `MissingDependency` if its import lacks a package.
        """
        name = name.replace("-", "_")
        if name not in self.names():
            raise UnknownName.among(self.noun, name, self.names())
        try:
            module = importlib.import_module(f"{self.package}.{self.prefix}{name}")
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"{self.noun} {name!r} needs the package {error.name!r}", f"pip install {error.name}"
            ) from error
        return getattr(module, self.attribute)
