"""Only functions that unpack a parameter model for a notebook, or handle whole studies, take one as an argument."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import lib
from lib.study import params

STUDIES = {"lib.data.duration", "lib.notebook", "lib.pipeline", "lib.prediction.shipping"}  # and the room lib.study
STUDIES |= {
    f"lib.report.{name}"
    for name in ("build", "bundle", "content", "gallery", "index_page", "model_card", "origins", "recompute")
}
STUDIES |= {f"lib.report.recompute.{name}" for name in ("content", "results", "tables")}
UNPACK = {
    "lib.datasets": {"of", "_key_faults"},
    "lib.evaluation.landmarks": {"predict_all"},
    "lib.evaluation.segmentation": {"evaluate_all"},
    "lib.models": {"describe"},
    "lib.preprocessing": {"source_of"},
    "lib.training.epoch_profile": {"profile_epoch"},
    "lib.training.launch": {"fit"},
    "lib.training.overfit_one_batch": {"overfit"},
}
MODELS = [model.__name__ for model in (params.SharedParams, params.Study, *params.STEPS.values())]
PROTOCOL = "lib.training.loop"  # the training protocol of 04, one file read from top to bottom
MODULES = [each.name for each in pkgutil.walk_packages(lib.__path__, "lib.")]
LEAVES = [name for name in MODULES if not name.startswith("lib.study") and name not in {*STUDIES, PROTOCOL}]


def functions_of(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions that a module defines, including methods of its classes and the __init__ of dataclasses."""
    for name, defined in vars(module).items():
        if getattr(defined, "__module__", "") == module.__name__:
            methods = vars(defined).items() if inspect.isclass(defined) else ()
            members = [(name, defined), *((f"{name}.{key}", method) for key, method in methods)]
            yield from (member for member in members if inspect.isfunction(member[1]))


@pytest.mark.parametrize("name", LEAVES)
def test_only_the_listed_functions_take_a_parameter_model(name):
    takers = {
        key
        for key, function in functions_of(importlib.import_module(name))
        if any(model in str(inspect.signature(function)).partition(" -> ")[0] for model in MODELS)
    }
    assert takers == UNPACK.get(name, set())
