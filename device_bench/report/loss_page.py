"""A report on what quantization cost as one page that needs nothing else: no network, no scripts, light and dark."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import loss_chart, text_file
from .drawing import apart

if TYPE_CHECKING:
    from ...converters.losses import Loss, Losses, Picture

TEMPLATE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Quantization report: {{ title }}</title>
<style>
:root { --text: #1c2024; --back: #fff; --line: #d5dae0; --first: #7aa6d8; --second: #c2410c; --third: #15803d; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ed; --back: #14171a; --line: #3a4149; --first: #4a7fbd; --second: #fb923c; --third: #4ade80; }
}
body { margin: 0 auto; max-width: 64rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--text); background: var(--back); }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
article { border: 1px solid var(--line); border-radius: 6px; padding: .75rem; margin: .75rem 0; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: .75rem; }
.suspicious { color: var(--second); font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .6rem; text-align: left; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
</style>
<h1>Quantization report: {{ title }}</h1>
<ul>{% for line in summary %}<li>{{ line }}{% endfor %}</ul>
<p>SQNR is 10·log10(Σ meant² / Σ (meant − found)²). Isolated: the operator alone, given the values of the float form.
Propagated: with the errors of everything before it. Seen: the range in the float form; held: what the integers can be.
<h2>All operators</h2>
<figure style="margin: 0">{{ chart }}</figure>
<h2>The {{ worst | length }} that lose most by themselves</h2>
{% for loss, weight, activation in worst %}<article>
<h3>{{ loop.index }}. {{ loss.name }}</h3>
<p>{{ loss.kind }}, {{ loss.arithmetic }}: isolated {{ loss.isolated_db | decibels }} dB, propagated
{{ loss.propagated_db | decibels }} dB; seen {{ loss.seen | span }}
{%- if loss.held %}, held {{ loss.held | span }}, {{ "%.2f" | format(100 * loss.clipped) }} % clipped{% endif %}.
{%- if loss.weight %} Weights {{ loss.weight.name }}, {{ loss.weight.dtype }}: {{ loss.weight.sqnr_db | decibels }} dB,
worst channel {{ loss.weight.worst_channel }} with {{ loss.weight.worst_channel_db | decibels }} dB.{% endif %}
{%- if loss.suspicious %} <span class="suspicious">Suspicious: {{ loss.remark or "this is more than rounding costs" }}.
</span>{% endif %}
<div class="pictures">{% if weight %}<div>{{ weight }}</div>{% endif %}<div>{{ activation }}</div></div>
</article>{% endfor %}
<h2>Every operator, in the order of the file</h2>
<div class="scroll"><table>
<tr><th>operator<th>kind<th>arithmetic<th class="number">isolated dB<th class="number">propagated dB<th>seen<th>held
<th class="number">clipped %<th class="number">weights dB<th class="number">worst channel dB<th>
{% for loss in operators %}<tr{% if loss.suspicious %} class="suspicious"{% endif %}><td>{{ loss.name }}
<td>{{ loss.kind }}<td>{{ loss.arithmetic }}<td class="number">{{ loss.isolated_db | decibels }}
<td class="number">{{ loss.propagated_db | decibels }}<td>{{ loss.seen | span }}<td>{{ loss.held | span }}
<td class="number">{{ "%.2f" | format(100 * loss.clipped) if loss.held else "—" }}
<td class="number">{{ loss.weight.sqnr_db | decibels if loss.weight else "—" }}
<td class="number">{{ loss.weight.worst_channel_db | decibels if loss.weight else "—" }}<td>{{ loss.remark }}
{% endfor %}</table></div>
</html>
"""


def write(losses: Losses, *, title: str, summary: list[str], file: Path) -> None:
    """Put the page into `file`, whole or not at all; raises `FileProblem`."""
    text_file.write(render(losses, title=title, summary=summary), file)


def render(losses: Losses, *, title: str, summary: list[str]) -> str:
    """The page's text; names from files are escaped."""
    from jinja2 import Environment
    from markupsafe import Markup

    environment = Environment(autoescape=True)
    environment.filters.update(decibels=decibels, span=span)
    page: str = environment.from_string(TEMPLATE).render(
        title=title,
        summary=summary,
        chart=Markup(loss_chart.all_operators(losses.operators)),
        worst=[
            (loss, *(Markup(apart(svg, f"{rank}{side}")) if svg else None for side, svg in _pictures(picture, loss)))
            for rank, (picture, loss) in enumerate((each, losses.operators[each.place]) for each in losses.pictures)
        ],
        operators=losses.operators,
    )
    return page


def _pictures(picture: Picture, loss: Loss) -> list[tuple[str, str | None]]:
    weight = loss_chart.weights(picture.weight) if picture.weight else None
    return [("w", weight), ("a", loss_chart.activations(picture.activation, loss.held))]


def decibels(value: float | None) -> str:
    """With a digit behind the point."""
    if value is None:
        return "—"
    return f"{value:.1f}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")


def span(bounds: tuple[float, float] | None) -> str:
    """A range in few digits."""
    return "—" if bounds is None else f"{bounds[0]:.3g} … {bounds[1]:.3g}"
