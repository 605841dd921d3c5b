"""Which functions of lib take a parameter model: those that unpack one for a notebook, and those of whole studies."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import lib
from lib.study import params

STUDIES = {"lib.notebook", "lib.pipeline", "lib.report.build", "lib.report.content"}  # and the room lib.study
UNPACK = {
    "lib.datasets": {"of", "_key_faults"},
    "lib.evaluation.landmarks": {"predict_all"},
    "lib.evaluation.segmentation": {"evaluate_all"},
    "lib.models": {"describe"},
    "lib.preprocessing": {"source_of"},
    "lib.training.overfit_one_batch": {"overfit"},
}
MODELS = [model.__name__ for model in (params.SharedParams, params.Study, *params.STEPS.values())]
PROTOCOL = "lib.training.loop"  # 04's own module: the whole protocol, read from top to bottom
MODULES = [each.name for each in pkgutil.walk_packages(lib.__path__, "lib.")]
LEAVES = [name for name in MODULES if not name.startswith("lib.study") and name not in {*STUDIES, PROTOCOL}]


def functions_of(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions that a module defines, with the methods of its classes, a dataclass's __init__ among them."""
    own = [(name, held) for name, held in vars(module).items() if getattr(held, "__module__", "") == module.__name__]
    for name, held in own:
        inner = [(f"{name}.{key}", method) for key, method in vars(held).items()] if inspect.isclass(held) else []
        yield from ((key, each) for key, each in [(name, held), *inner] if inspect.isfunction(each))


@pytest.mark.parametrize("name", LEAVES)
def test_only_those_that_unpack_a_parameter_model_take_one(name):
    takers = {
        key
        for key, function in functions_of(importlib.import_module(name))
        if any(model in str(inspect.signature(function)).partition(" -> ")[0] for model in MODELS)
    }
    assert takers == UNPACK.get(name, set())
