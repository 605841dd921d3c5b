"""From a parameter model to plain values, where a notebook calls functions."""

from dataclasses import fields
from typing import TypeVar

from lib.study.params import Params

Record = TypeVar("Record")


def pick(model: Params, record: type[Record]) -> Record:
    """A dataclass of plain values, each field taken from the key of its name; the default where the key is absent."""
    values = {field.name: getattr(model, field.name) for field in fields(record)}  # type: ignore[arg-type]
    return record(**{name: value for name, value in values.items() if value is not None})
