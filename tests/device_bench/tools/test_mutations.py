"""Whatever happens to the text on its way: a whole record with the right figures, or the error. 10,000 times."""

import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest

from evit_edge.device_bench.tools.outcome import Footprint, Outcome
from evit_edge.models.errors import UnreadableOutput

from .reading import PARSERS, sample

TIMES: Final = 10_000
NOISE: Final = (
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n",
    "VERBOSE: Replacing 65 out of 66 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2 partitions.\n",
    "WARNING: linker: /data/local/tmp/tool: unsupported flags DT_FLAGS_1=0x8000001\n",
    "count=3 lines of something else\n",
    "2026-11-22 17:26:31 INFO benchmark: Latency of the network: 7 ms\n",
)
# Words of the tool's user, which nothing else in the text confirms.
WORDS: Final = ("model", "delegations", "ignored_flags")
# What a release or an option leaves out; a record without it is still one.
OPTIONAL: Final = ("init_ns", "first_ns", "min_ns", "max_ns", "percentiles_ns", "memory")
# Bytes that cannot make another number of a number.
GARBAGE: Final = bytes(each for each in range(256) if chr(each) not in "0123456789.eE+-\r\n")


def cut(text: str, chance: random.Random) -> str:
    return text[: chance.randrange(len(text))]


def windows_line_ends(text: str, chance: random.Random) -> str:
    return text.replace("\n", chance.choice(["\r\n", "\r\r\n"]))


def line_between(text: str, chance: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(NOISE))
    return "".join(lines)


def line_within(text: str, chance: random.Random) -> str:
    where = chance.randrange(len(text))
    return text[:where] + chance.choice(NOISE) + text[where:]


def scientific(text: str, chance: random.Random) -> str:
    found = chance.choice([*re.finditer(r"(?<=[= :])[0-9]+\.[0-9]+(?=[ ,\n])", text)])
    return text[: found.start()] + f"{float(found.group()):.{chance.randrange(9, 12)}e}" + text[found.end() :]


def doubled_line(text: str, chance: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    where = chance.randrange(len(lines))
    return "".join([*lines[:where], lines[where], *lines[where:]])


def dropped_line(text: str, chance: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    return "".join(lines)


def garbage(text: str, chance: random.Random) -> str:
    content, where = text.encode(), chance.randrange(len(text))
    bytes_ = bytes(chance.choices(GARBAGE, k=chance.randint(1, 4)))
    return (content[:where] + bytes_ + content[where + chance.choice([0, len(bytes_)]) :]).decode(errors="replace")


MUTATIONS: Final[tuple[Callable[[str, random.Random], str], ...]] = (
    cut,
    windows_line_ends,
    line_between,
    line_within,
    scientific,
    doubled_line,
    dropped_line,
    garbage,
)
HARMLESS: Final = (windows_line_ends, scientific)


def is_same(found: Outcome, whole: Outcome) -> bool:
    """All figures as they were, or left out where a whole text may leave them out."""
    return all(
        value == getattr(whole, name) or (name in OPTIONAL and is_part(value, getattr(whole, name)))
        for name, value in found
        if name not in WORDS
    )


def is_part(value: object, whole: object) -> bool:
    if isinstance(value, Footprint) and isinstance(whole, Footprint):
        return all(each in {None, getattr(whole, name)} for name, each in value)
    return value is None or value == {}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda it: it.__name__)
def test_a_damaged_text_gives_the_true_figures_or_the_error(mutation: Callable[[str, random.Random], str]) -> None:
    chance, seen = random.Random(mutation.__name__), Counter[str]()
    whole = {name: parse(sample(name)) for name, parse in PARSERS.items()}
    for name in chance.choices(list(PARSERS), k=TIMES // len(MUTATIONS)):
        text = mutation(sample(name), chance)
        try:
            found = PARSERS[name](text)
            assert found
        except UnreadableOutput as error:
            kept, found = error.text, ()
            seen["error"] += 1
        else:
            kept = text
            seen["record"] += 1
        assert kept == text
        for each in found:
            assert any(is_same(each, other) for other in whole[name]), (name, text)
    assert seen["record"] > 0
    assert (seen["error"] > 0) == (mutation not in HARMLESS)
