"""Error messages for the values of a parameter model: all errors at once, each with the allowed values."""

import difflib
from collections.abc import Container, Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from lib.study import param_rules

SHOWN = 80  # characters of a value in a message


def find_faults(values: dict[str, Any], model: type[BaseModel], partial: bool = False) -> list[str]:
    """All errors in `values`, one line per key; with `partial`, missing and unused keys are not reported."""
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
            wrong.setdefault(name, f"{name} = {shown(values[name])}   not used; requires {option}")
        elif is_used and values.get(name) is None:
            wrong.setdefault(name, f"{name}   missing; required with {option}: {allowed}")
    for keys, holds, allowed in param_rules.RULES:
        if all(values.get(name) is not None and name not in wrong for name in keys):
            given = [values[name] for name in keys]
            if not holds(*given):
                words = allowed if isinstance(allowed, str) else allowed(*given)
                wrong[keys[0]] = f"{keys[0]} = {shown(given[0])}   not allowed; {words}"
    return list(wrong.values())


def uses(values: dict[str, Any], model: type[BaseModel], wrong: Container[str] = ()) -> dict[str, bool]:
    """Whether the options selected in `values` use each key that only one option uses.

    Keys are left out if their option depends on a key that is missing or `wrong`, or on the data set.
    """
    # None means "absent", except for keys of every study, which may be null.
    known = {key for key, value in values.items() if value is not None or not option_of(model, key)}
    used: dict[str, bool] = {}
    for name in model.model_fields:
        deciding, holds = param_rules.OPTIONS.get(option_of(model, name), ((), None))
        if holds is None or any(key in wrong for key in deciding):
            continue
        if not all(used.get(key, True) for key in deciding):  # an option of an option that is not selected
            used[name] = False
        elif known.issuperset(deciding):
            used[name] = bool(holds(*(values[key] for key in deciding)))
    return used


def option_of(model: type[BaseModel], name: str) -> str:
    """Name of the only option that uses a key; "" for a key of every study."""
    extra = model.model_fields[name].json_schema_extra if name in model.model_fields else None
    return str(extra["option"]) if isinstance(extra, dict) else ""


def _describe_fault(name: str, fault: dict[str, Any], values: dict[str, Any], model: type[BaseModel]) -> str:
    """One line for one pydantic error."""
    if fault["type"] == "extra_forbidden":
        return f"{cut(name)} = {shown(values[name])}   no such key{nearest(name, model.model_fields)}"
    field = model.model_fields[name]
    if fault["type"] == "missing":
        return f"{name}   missing; {field.description}"
    value = values[name]
    for index in fault["loc"][1:]:  # down to the wrong entry of a list
        value = value[index]
    hint = _nearest_value(value, innermost(field.annotation)) if isinstance(value, str) else ""
    return f"{name} = {shown(values[name])}   not allowed; {field.description}{hint}"


def shown(value: object) -> str:
    """A value as Python writes it, cut to the length of a line."""
    try:
        return cut(repr(value))
    except (ValueError, RecursionError):  # a whole number of more than 4300 digits, or lists in lists
        return f"{type(value).__name__} that is too large to print"


def cut(text: str) -> str:
    """A text for a message: its beginning and its length if it is longer than a line, on one line."""
    line = " ".join(text.splitlines()) if len(text) < 10 * SHOWN else text[: 10 * SHOWN]
    return line if len(text) <= SHOWN else f"{line[:SHOWN]}… ({len(text)} characters)"


def nearest(name: str, known: Iterable[str]) -> str:
    """'; nearest: x' if a known name is similar, otherwise ""."""
    close = difflib.get_close_matches(name[:SHOWN], list(known), n=1)
    return f"; nearest: {close[0]}" if close else ""


def is_quick(study: str) -> bool:
    """Whether a study takes minutes, by its name."""
    return study.endswith("_quick") or study == "demo"


def nearest_studies(name: str, known: Iterable[str], count: int = 3) -> str:
    """'; nearest: x, y' of the studies that start with a name, quick ones first, or are similar; else quick ones."""
    known, name = sorted(known), name.casefold()
    started = [each for each in known if name and each.startswith(name)]
    close = sorted(started, key=lambda each: (not is_quick(each), len(each)))
    close = close[:count] or difflib.get_close_matches(name, known, n=count)
    examples = [each for each in known if is_quick(each)][:count]
    return f"; nearest: {', '.join(close)}" if close else f"; for example {', '.join(examples)}" if examples else ""


def _nearest_value(text: str, allowed: set[Any]) -> str:
    """A hint for a wrong string: the nearest allowed word, or how to write a number in YAML."""
    try:
        number = float(text)
    except ValueError:
        return nearest(text, [word for word in allowed if isinstance(word, str)])
    if not abs(number) < 2**63:  # nan, inf and what no key takes
        return ""
    if int in allowed and number.is_integer():
        return f"; YAML reads this as text: write {int(number)} without quotes"
    if float in allowed:
        return f"; YAML reads this as text: write {number!r} without quotes, with a decimal point (1.0e-4, not 1e-4)"
    return ""


def innermost(annotation: Any) -> set[Any]:
    """Plain types and allowed words of an annotation: list[Annotated[float, ...]] -> {float, ...}."""
    inner = get_args(annotation)
    return set().union(*(innermost(each) for each in inner)) if inner else {annotation}


def refuse(where: str, faults: list[str]) -> None:
    """Raises a ValueError if there are faults: where, how many, then one line per fault."""
    count = f"{len(faults)} error" + ("s" if len(faults) > 1 else "")
    if faults:
        raise ValueError("\n".join([f"{where}: {count}", *(f"  {fault}" for fault in faults)]))
