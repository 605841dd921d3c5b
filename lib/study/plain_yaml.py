"""Reads YAML in which every value is written in the one way that has one meaning, and that cannot grow when it is read.

YAML 1.1, which PyYAML reads, makes 90 of `1:30`, 8 of `010`, true of `yes` and gigabytes of ten aliases. All of these
are refused with their line, from the parser's events, before any value exists.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, Event, ScalarEvent

from lib.study import param_faults

DEEPEST = 10  # levels of lists and mappings; study files have 3, data/sources.yaml has 5
WHOLE = r"[-+]?(0|[1-9][0-9]*)"
PLAIN = {"int": WHOLE, "float": rf"({WHOLE}|[-+]?)\.[0-9]*([eE][-+]?[0-9]+)?", "bool": "true|false"}
PLAIN |= {"null": "null|~|", "str": "(?s).*"}
PLAINLY = {"int": "decimal digits", "float": "decimal digits", "bool": "true or false", "null": "null"}
READ_AS = {"int": "a number", "float": "a number", "bool": "a truth value", "null": "no value", "timestamp": "a date"}
RESOLVER = yaml.resolver.Resolver()
MOST_BYTES = 100_000  # of a file; the longest here has 10,000
MOST_KEYS, LISTED = 500, 10  # keys of a file, faults in a message
LARGEST = 2**63 - 1  # tables store whole numbers in 64 bits


class _UniqueKeys(yaml.SafeLoader):
    """YAML loader that rejects duplicate keys, of which plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        counts = Counter(repr(self.construct_object(key, deep=deep)) for key, _ in node.value)
        twice = ", ".join(key.strip("'") for key, count in counts.items() if count > 1)
        if twice:
            raise ValueError(f"line {node.start_mark.line + 1}: duplicate keys: {param_faults.cut(twice)}")
        return super().construct_mapping(node, deep)


def read(path: Path) -> dict[str, Any]:
    """Reads a flat YAML mapping; ValueError if the file is too long, something else or not plain."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; expected at most {MOST_BYTES}")
    try:
        values = load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: contains {type(values).__name__}; expected one 'key: value' per line")
    unnamed = [name for name in values if not isinstance(name, str)]
    if unnamed:
        raise ValueError(f"{path}: keys {param_faults.shown(unnamed)}; expected names")
    return values


def load(text: str) -> object:
    """The value of a YAML text; ValueError with line and key for values that are not plain, at most LISTED of them."""
    faults = list(islice(_faults(text), LISTED))
    if faults:
        raise ValueError("; ".join(faults))
    return yaml.load(text, Loader=_UniqueKeys)  # a SafeLoader


def _faults(text: str) -> Iterator[str]:
    """One sentence per value that is not plain; ValueError for what must not be read on."""
    depth, key, keys = 0, "", 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if isinstance(event, ScalarEvent) and depth == 1 and event.start_mark.column == 0:
            key, keys = event.value, keys + 1
        where = f"line {event.start_mark.line + 1}" + (f", {param_faults.cut(key)}" if key else "")
        fault = _structure_fault(event, depth) or (f"more than {MOST_KEYS} keys" if keys > MOST_KEYS else "")
        if fault:
            raise ValueError(f"{where}: {fault}")
        fault = _scalar_fault(event.value) if isinstance(event, ScalarEvent) and event.implicit[0] else ""
        if fault:
            yield f"{where}: {param_faults.cut(event.value)}   {fault}"


def _structure_fault(event: Event, depth: int) -> str:
    """Why an event is refused that would name, repeat or nest values."""
    anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
    if anchor:
        sign = "*" if isinstance(event, AliasEvent) else "&"
        return f"{sign}{param_faults.cut(anchor)} is a YAML alias or anchor; write the value itself"
    if tag:
        return f"{param_faults.cut(tag)} is a YAML type; write the value alone"
    return f"lists and mappings are nested more than {DEEPEST} deep" if depth > DEEPEST else ""


def _scalar_fault(text: str) -> str:
    """Why a value without quotes is refused; "" for a text, number, true, false or null in its usual form."""
    meaning = RESOLVER.resolve(yaml.ScalarNode, text, (True, False)).rpartition(":")[2]
    if not re.fullmatch(PLAIN.get(meaning, "(?!)"), text):
        value = _value(text) if meaning in ("int", "float", "bool") else ""
        value = value or READ_AS.get(meaning, "a sign with a special meaning")
        advice = f"write {PLAINLY[meaning]}, or a text in quotes" if meaning in PLAINLY else "write it in quotes"
        return f"YAML reads this as {value}; {advice}"
    if meaning == "int" and (len(text) > 20 or abs(int(text)) > LARGEST):
        return f"a whole number of {len(text.lstrip('+-'))} digits; expected at most 2**63 - 1"
    return "too large for a number" if meaning == "float" and math.isinf(float(text)) else ""


def _value(text: str) -> str:
    """What YAML 1.1 makes of a number or truth value, as text; "" if it is too long to print or PyYAML fails (0x_)."""
    try:
        return str(yaml.safe_load(text)).lower() if len(text) < param_faults.SHOWN else ""
    except ValueError:
        return ""
