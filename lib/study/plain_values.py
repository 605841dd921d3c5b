"""From a parameter model to plain values, where a notebook calls functions."""

from dataclasses import fields
from typing import TypeVar

from lib.study.params import Params

Record = TypeVar("Record")


def pick(model: Params, record: type[Record]) -> Record:
    """A dataclass of plain values, each of its fields taken from the key of that name."""
    return record(**{field.name: getattr(model, field.name) for field in fields(record)})  # type: ignore[arg-type]
