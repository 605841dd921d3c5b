"""Which functions of lib take a parameter model: those that unpack one for a notebook, and those of whole studies."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ForwardRef, get_args

import pytest

import lib
from lib.study import params

STUDIES = {"lib.notebook", "lib.pipeline", "lib.report.build", "lib.report.content"}  # and the room lib.study
UNPACK = {
    "lib.datasets": {"of"},
    "lib.evaluation.landmarks": {"find_all"},
    "lib.evaluation.segmentation": {"evaluate_all"},
    "lib.models": {"describe"},
    "lib.preprocessing": {"source_of"},
    "lib.training.overfit_one_batch": {"overfit"},
}
MODELS = {model.__name__ for model in (params.SharedParams, params.Study, *params.STEPS.values())}
PROTOCOL = "lib.training.loop"  # 04's own module: the whole protocol, read from top to bottom


def names_model(annotation: Any) -> bool:
    """Whether an annotation is, holds, or spells a parameter model."""
    if isinstance(annotation, ForwardRef | str):
        spelt = annotation if isinstance(annotation, str) else annotation.__forward_arg__
        return not MODELS.isdisjoint(re.findall(r"\w+", spelt))
    if inspect.isclass(annotation) and issubclass(annotation, params.SharedParams):
        return True
    return any(names_model(inner) for inner in get_args(annotation))


def functions_of(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions that a module defines, with the methods of its classes, a dataclass's __init__ among them."""
    for name, held in vars(module).items():
        if getattr(held, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(held):
            methods = {key: getattr(held, key) for key in vars(held)}
            yield from ((f"{name}.{key}", method) for key, method in methods.items() if inspect.isfunction(method))
        elif inspect.isfunction(held):
            yield name, held


def takers(module: ModuleType) -> set[str]:
    """Functions of a module with a parameter that is annotated with a parameter model."""
    return {
        name
        for name, function in functions_of(module)
        if any(names_model(each.annotation) for each in inspect.signature(function).parameters.values())
    }


MODULES = [each.name for each in pkgutil.walk_packages(lib.__path__, "lib.")]
LEAVES = [name for name in MODULES if not name.startswith("lib.study") and name not in {*STUDIES, PROTOCOL}]


@pytest.mark.parametrize("name", LEAVES)
def test_only_those_that_unpack_a_parameter_model_take_one(name):
    assert takers(importlib.import_module(name)) == UNPACK.get(name, set())


def of_a_model(mask: list, chosen: params.EvaluationParams) -> list:
    return mask if chosen else []


def of_either(chosen: "params.Study | None") -> bool:
    return chosen is None


def of_numbers(mask: list, side_px: int) -> list:
    return mask[side_px:]


@dataclass
class Held:
    chosen: params.TrainingParams


def test_a_function_or_a_record_that_takes_a_model_is_found():
    module = importlib.import_module(__name__)
    assert takers(module) == {"of_a_model", "of_either", "Held.__init__"}


def test_every_module_that_may_take_one_is_there():
    assert {*STUDIES, *UNPACK, PROTOCOL} <= {*MODULES, "lib.datasets", "lib.models"}
