"""Study files by name: finds and copies them, writes those of own data, and lists the differences between two."""

import os
import re
import textwrap
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lib.study import files, param_faults, params

KEYS = dict.fromkeys(key for model in (params.SharedParams, *params.STEPS.values()) for key in model.model_fields)
# Keys that usually differ in a new study; the others are its protocol, which a comparison keeps.
TO_REVIEW = ("title", "author", "degree", "institution", "supervisors")
TO_REVIEW += ("dataset", "classes", "exclude", "folds", "seeds", "compare_with")
NAME = re.compile(r"(?:\./)?(?:params/)?([a-z0-9_]+)(?:\.yaml)?")
MAX_PROPOSED = 40  # letters of a proposed name; of 64 that are allowed, also as "own_<name>" and with a number
UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "æ": "ae", "ø": "o"})  # others lose their accent
WIDTH, COMMENT_COLUMN = 120, 33  # of a line in a study file; where the comments start
HEADING = "# All keys that this study uses; there are no defaults. Write floats with a decimal point (1.0e-4)."


def study_name(text: str) -> str:
    """Name of a study given as demo, demo.yaml, params/demo or params/demo.yaml; ValueError for anything else."""
    match = NAME.fullmatch(text.replace(os.sep, "/"))
    if match is None:
        nearest = param_faults.nearest_studies(Path(text).stem, names())
        raise ValueError(
            f"{text!r}: not the name of a study; expected a-z, 0-9, _, such as demo or params/demo.yaml{nearest}"
        )
    return match[1]


def names() -> list[str]:
    """Names of all study files, quick and short ones first."""
    found = (path.stem for path in files.study_file("demo").parent.glob("*.yaml"))
    return sorted(found, key=lambda name: (not param_faults.is_quick(name), len(name), name))


def with_value(key: str, value: str) -> list[str]:
    """Names of the studies in which a key has a value (text), in the order of `names`."""
    line = re.compile(rf"(?m)^{key}:\s*{re.escape(value)}\s*(#.*)?$")
    return [name for name in names() if line.search(files.study_file(name).read_text(encoding="utf-8"))]


def name_from(text: str) -> str:
    """A free name for a study, of up to MAX_PROPOSED letters, from that of a folder."""
    latin = unicodedata.normalize("NFKD", text.casefold().translate(UMLAUTS))
    latin = "".join(each for each in latin if not unicodedata.combining(each))
    name = re.sub("[^a-z0-9]+", "_", latin)[:MAX_PROPOSED].strip("_") or "mine"
    taken = names()
    return next(
        each for each in (name, *(f"{name}_{number}" for number in range(2, len(taken) + 3))) if each not in taken
    )


def new(name: str, like: str) -> tuple[Path, list[str]]:
    """Copies params/<like>.yaml to params/<name>.yaml; returns path and keys to review; ValueError if not possible."""
    study, path = params.read_study(files.study_file(like)), _new_file(name)
    text = files.study_file(like).read_text(encoding="utf-8")
    files.write_text(path, re.sub(r"(?m)^(study:\s*)\S+", rf"\g<1>{_as_yaml(name)}", text, count=1))
    return path, [f"{key}: {value}" for key, value in params.values_of(study).items() if key in TO_REVIEW]


def write(values: Mapping[str, Any], reasons: Mapping[str, str], first: str) -> Path:
    """Writes the file of a new study, named by its key `study`.

    Each key has its reason as comment, or else the description of its allowed values; `first` is the first comment.
    ValueError if the file exists or the values are not those of a complete study.
    """
    path = _new_file(values["study"])
    param_faults.refuse(f"params/{path.name}", param_faults.find_faults(dict(values), params.Study))
    lines, rest = [f"# {first}", HEADING], dict(values)
    keys_of = {step: params.own_keys(step) for step in params.STEPS}
    for section, names in ({"all notebooks": list(params.SharedParams.model_fields)} | keys_of).items():
        keys = [key for key in names if key in rest]
        lines += ["", f"# --- {section}"] if keys else []
        for key in keys:
            lines += _lines(key, rest.pop(key), reasons.get(key, ""))
    files.write_text(path, "\n".join(lines) + "\n")
    return path


def _new_file(name: str) -> Path:
    """Path of a study file to be written; ValueError if the name is not allowed or taken."""
    param_faults.refuse("a new study", param_faults.find_faults({"study": name}, params.Study, partial=True))
    path = files.study_file(name)
    if path.exists():
        raise ValueError(f"{path}: already exists; choose another name or remove it first")
    return path


def _as_yaml(value: Any) -> str:
    """A value in one line; texts that YAML would read as something else are quoted."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("...\n").strip()


def _lines(key: str, value: Any, reason: str) -> list[str]:
    """A key with its comment; a description too long for the line stands above it."""
    comment = reason or str(params.Study.model_fields[key].description)
    text = _as_yaml(value)
    line = f"{key}: {text}".ljust(COMMENT_COLUMN - 2) + f"  # {comment}"
    if len(line) <= WIDTH:
        return [line]
    return [*textwrap.wrap(comment, WIDTH, initial_indent="# ", subsequent_indent="# "), f"{key}: {text}"]


def lines_with(study: str, words: list[str]) -> list[int]:
    """Numbers of the lines of a study file that contain one of these words."""
    text = files.study_file(study).read_text(encoding="utf-8")
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, words))})\b")
    return [number for number, line in enumerate(text.splitlines(), start=1) if pattern.search(line)]


def diff(one: str, other: str) -> list[str]:
    """A header, then one line per key that differs: key, value in `one`, value in `other`; "-" if not used."""
    mine, its = (params.values_of(params.read_study(files.study_file(name))) for name in (one, other))
    rows = [
        (key, *(repr(values[key]) if key in values else "-" for values in (mine, its)))
        for key in KEYS
        if key != "study" and (key in mine or key in its) and mine.get(key, ...) != its.get(key, ...)
    ]
    widths = [max(len(row[column]) for row in [("key", one, other), *rows]) for column in range(3)]
    lines = [("key", one, other), *rows]
    return ["   ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines]
