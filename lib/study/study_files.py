"""Copies a study file under a new name, and lists the differences between two."""

import re
from pathlib import Path

from lib.study import files, param_faults, params

KEYS = dict.fromkeys(key for model in (params.SharedParams, *params.STEPS.values()) for key in model.model_fields)
# Keys that usually differ in a new study; the others are its protocol, which a comparison keeps.
TO_REVIEW = ("title", "author", "dataset", "classes", "exclude", "folds", "seeds", "compare_with")


def new(name: str, like: str) -> tuple[Path, list[str]]:
    """Copies params/<like>.yaml to params/<name>.yaml; returns path and keys to review; ValueError if not possible."""
    param_faults.refuse("a new study", param_faults.find_faults({"study": name}, params.Study, partial=True))
    study, path = params.read_study(files.study_file(like)), files.study_file(name)
    if path.exists():
        raise ValueError(f"{path}: already exists; choose another name or remove it first")
    text = files.study_file(like).read_text(encoding="utf-8")
    files.write_text(path, re.sub(r"(?m)^(study:\s*)\S+", rf"\g<1>{name}", text, count=1))
    return path, [f"{key}: {value}" for key, value in params.values_of(study).items() if key in TO_REVIEW]


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
