"""coremltools, imported so that it stays quiet and does not bring TensorFlow along."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def coremltools() -> Any:
    """The package: without TensorFlow, whose models we do not convert and whose import takes longer than all of M0."""
    if "coremltools" not in sys.modules:
        absent = {name: None for name in ("tensorflow",) if name not in sys.modules}
        # Both are how it says that this is not a Mac, and that it does not know this PyTorch yet.
        logging.getLogger("coremltools").setLevel(logging.ERROR)
        with quiet():
            sys.modules.update(absent)  # type: ignore[arg-type]
            try:
                import coremltools as ct
            finally:
                for name in absent:
                    del sys.modules[name]
        ct._logger.setLevel(logging.ERROR)
    return sys.modules["coremltools"]


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings: PyTorch's and coremltools' are about their own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
