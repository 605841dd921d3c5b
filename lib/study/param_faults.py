"""What is wrong with the values of a parameter model, in words: every fault at once, each with what is allowed."""

import difflib
from collections.abc import Container, Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from lib.study import param_rules


def find_faults(values: dict[str, Any], model: type[BaseModel], partial: bool = False) -> list[str]:
    """Every fault of some values, one line per key: value, what is wrong, what is allowed, nearest key.

    Of values that are `partial`, only unknown keys and wrong values are faults, none that is missing or not used.
    """
    wrong: dict[str, str] = {}
    try:
        model.model_validate(values)
    except ValidationError as error:
        for fault in error.errors():
            name = str(fault["loc"][0])
            if not (partial and fault["type"] == "missing"):
                wrong.setdefault(name, _describe_fault(name, fault, values, model))
    for name, is_used in {} if partial else uses(values, model, wrong).items():
        option, allowed = option_of(model, name), model.model_fields[name].description
        if not is_used and name in values:
            wrong.setdefault(name, f"{name} = {values[name]!r}   not used; only with {option}")
        elif is_used and values.get(name) is None:
            wrong.setdefault(name, f"{name}   missing; needed with {option}: {allowed}")
    for keys, holds, allowed in param_rules.RULES:
        if all(values.get(name) is not None and name not in wrong for name in keys):
            given = [values[name] for name in keys]
            if not holds(*given):
                words = allowed if isinstance(allowed, str) else allowed(*given)
                wrong[keys[0]] = f"{keys[0]} = {given[0]!r}   not allowed; {words}"
    return list(wrong.values())


def uses(values: dict[str, Any], model: type[BaseModel], wrong: Container[str] = ()) -> dict[str, bool]:
    """Whether the options that `values` choose use each key that only one option uses.

    A key whose option hangs on a key that is missing or `wrong` is left out, as is one of which the data set decides.
    """
    # None stands for "absent" but where a key of every study may be null.
    known = {key for key, value in values.items() if value is not None or not option_of(model, key)}
    used: dict[str, bool] = {}
    for name in model.model_fields:
        deciding, holds = param_rules.OPTIONS.get(option_of(model, name), ((), None))
        if holds is None or any(key in wrong for key in deciding):
            continue
        if not all(used.get(key, True) for key in deciding):  # an option of an option that is not chosen
            used[name] = False
        elif known.issuperset(deciding):
            used[name] = bool(holds(*(values[key] for key in deciding)))
    return used


def option_of(model: type[BaseModel], name: str) -> str:
    """The only option that uses a key, in words; "" for a key of every study."""
    extra = model.model_fields[name].json_schema_extra if name in model.model_fields else None
    return str(extra["option"]) if isinstance(extra, dict) else ""


def _describe_fault(name: str, fault: dict[str, Any], values: dict[str, Any], model: type[BaseModel]) -> str:
    """One line for one fault that pydantic found."""
    if fault["type"] == "extra_forbidden":
        return f"{name} = {values[name]!r}   no such key{nearest(name, model.model_fields)}"
    field = model.model_fields[name]
    if fault["type"] == "missing":
        return f"{name}   missing; {field.description}"
    value = values[name]
    for place in fault["loc"][1:]:  # the entry of a list that is at fault
        value = value[place]
    hint = _nearest_value(value, innermost(field.annotation)) if isinstance(value, str) else ""
    return f"{name} = {values[name]!r}   not allowed; {field.description}{hint}"


def nearest(name: str, known: Iterable[str]) -> str:
    """'; nearest: x' where a known name is alike, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; nearest: {close[0]}" if close else ""


def _nearest_value(text: str, allowed: set[Any]) -> str:
    """A hint on a wrong text: the nearest allowed word, or how YAML wants numbers written."""
    try:
        number = float(text)
    except ValueError:
        return nearest(text, [word for word in allowed if isinstance(word, str)])
    if int in allowed and number.is_integer():
        return f"; this is text to YAML: write {int(number)} without quotes"
    if float in allowed:
        return f"; this is text to YAML: write {number!r} without quotes, with a point (1.0e-4, not 1e-4)"
    return ""


def innermost(annotation: Any) -> set[Any]:
    """Plain types and allowed words inside an annotation: list[Annotated[float, ...]] -> {float, ...}."""
    inner = get_args(annotation)
    return set().union(*(innermost(each) for each in inner)) if inner else {annotation}


def refuse(where: str, faults: list[str]) -> None:
    """ValueError where there are faults: where, how many, one line per fault."""
    count = f"{len(faults)} fault" + ("s" if len(faults) > 1 else "")
    if faults:
        raise ValueError("\n".join([f"{where}: {count}", *(f"  {fault}" for fault in faults)]))
