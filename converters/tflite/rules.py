"""All rules of the direct writer, by the name of the ATen operator."""

from __future__ import annotations

from typing import Final

from . import rules_layers, rules_pointwise, rules_shapes
from .lowering import Rule

RULES: Final[dict[str, Rule]] = {**rules_shapes.RULES, **rules_pointwise.RULES, **rules_layers.RULES}
