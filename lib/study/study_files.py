"""A new study file like another, and what two study files do differently."""

import re
from pathlib import Path

from lib.study import files, param_faults, params

KEYS = dict.fromkeys(key for model in (params.SharedParams, *params.STEPS.values()) for key in model.model_fields)
# What another study most often changes; the rest is its protocol, which a comparison keeps.
THINK_ABOUT = ("title", "author", "dataset", "classes", "exclude", "folds", "seeds", "compare_with")


def new(name: str, like: str) -> tuple[Path, list[str]]:
    """Copies params/<like>.yaml as params/<name>.yaml, which names itself; its path, and the keys to think about.

    ValueError if the name is no study's, the file is there already, or the other has faults.
    """
    param_faults.refuse("a new study", param_faults.find_faults({"study": name}, params.Study, partial=True))
    study, path = params.read_study(files.study_file(like)), files.study_file(name)
    if path.exists():
        raise ValueError(f"{path}: is there already; give another name, or remove it first")
    text = files.study_file(like).read_text(encoding="utf-8")
    files.write_text(path, re.sub(r"(?m)^(study:\s*)\S+", rf"\g<1>{name}", text, count=1))
    return path, [f"{key}: {value}" for key, value in params.values_of(study).items() if key in THINK_ABOUT]


def diff(one: str, other: str) -> list[str]:
    """A line for each key with another value in two studies: key, value of the one, of the other; - where not used."""
    mine, its = (params.values_of(params.read_study(files.study_file(name))) for name in (one, other))
    rows = [
        (key, *(repr(values[key]) if key in values else "-" for values in (mine, its)))
        for key in KEYS
        if key != "study" and (key in mine or key in its) and mine.get(key, ...) != its.get(key, ...)
    ]
    widths = [max(len(row[column]) for row in [("key", one, other), *rows]) for column in range(3)]
    lines = [("key", one, other), *rows]
    return ["   ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines]
