"""All rules of the direct writer, by the name of the ATen operator."""

from __future__ import annotations

from typing import Final

from . import rules_convolutions, rules_norms, rules_pointwise, rules_pools, rules_products, rules_shapes
from .lowering import Rule

RULES: Final[dict[str, Rule]] = {
    **rules_shapes.RULES,
    **rules_pointwise.RULES,
    **rules_convolutions.RULES,
    **rules_pools.RULES,
    **rules_products.RULES,
    **rules_norms.RULES,
}
