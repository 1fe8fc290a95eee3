"""Every plug-in, found by listing its files, keeps the promises of its kind."""

import importlib.util
import re
from pathlib import Path

import pytest

import evit_edge
from evit_edge.converters.conversion import CONVERTERS
from evit_edge.device_bench.device import DEVICES
from evit_edge.device_bench.session import RUNTIMES, default_runtime
from evit_edge.models.errors import UnknownName
from evit_edge.models.plugins import PluginKind
from evit_edge.models.spec import ZOOS, ModelRequest, find, names

KINDS = [CONVERTERS, DEVICES, RUNTIMES, ZOOS]
PLUGINS = [(kind, name) for kind in KINDS for name in kind.names()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_a_kind_has_plugins_and_answers_a_wrong_name_with_the_known_ones(kind: PluginKind) -> None:
    assert kind.names()
    with pytest.raises(UnknownName, match=kind.noun):
        kind.load("no such thing")


@pytest.mark.parametrize(("kind", "name"), PLUGINS, ids=lambda value: getattr(value, "noun", value))
def test_a_plugin_loads_and_can_be_typed(kind: PluginKind, name: str) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", name)
    assert kind.load(name) is not None


@pytest.mark.parametrize("target", CONVERTERS.names())
def test_a_target_has_precisions_a_default_and_a_runtime(target: str) -> None:
    converter = CONVERTERS.load(target)
    assert converter.default_precision in converter.precisions
    assert all(importlib.util.find_spec(package) for package in converter.requires)
    assert default_runtime(target) in RUNTIMES.names()


@pytest.mark.parametrize("name", names())
def test_a_model_can_be_found_and_found_again_from_its_own_request(name: str) -> None:
    spec = find(ModelRequest(name=name, weights="random"))
    again = find(spec.request)
    assert again.digest == spec.digest
    assert None not in (spec.request.weights, spec.request.img_size, spec.request.num_classes)


def test_the_python_api_has_every_name_that_it_lists() -> None:
    assert all(getattr(evit_edge, name) is not None for name in evit_edge.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        evit_edge.nonsense  # noqa: B018


def test_the_four_folders_are_the_packages() -> None:
    package = Path(evit_edge.__file__).parent
    for room in ("edge", "converters", "models", "device_bench"):
        assert (package / room).resolve() == Path(__file__).parents[1] / room
