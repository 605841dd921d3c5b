"""The Materials chapter of the report: facts of the data set, selection, characteristics, published results."""

from typing import Any

import pandas as pd

from lib.data import splits
from lib.data.dataset import Dataset
from lib.download import sources
from lib.report import literature
from lib.report.summaries import characteristics
from lib.study import files
from lib.study.raw_folders import OWN
from lib.verification.landmark_audit import NO_LANDMARKS

SOURCES = files.ROOT / "data" / "sources.yaml"
FEW_FOLDS = 6  # up to which each tested fold has a column of its own
INSTITUTIONS = ("lgg",)  # data sets whose groups are hospitals


def describe_source(name: str, dataset: Dataset) -> dict[str, Any]:
    """Kind ("published", "phantom", "own"), short name and facts of a data set by name, and its word for a group.

    `facts` are those of data/sources.yaml, `drawn` what a phantom shows; the other is empty.
    """
    if name.startswith(OWN):
        return {"kind": "own", "short_name": "own data", "facts": {}, "drawn": "", "record": "", "group_word": "group"}
    if dataset.phantom is not None:
        about = {"kind": "phantom", "short_name": dataset.phantom.short_name, "drawn": dataset.phantom.drawn}
        return about | {"facts": {}, "record": "", "group_word": "simulated group" if dataset.volumes else "group"}
    source = sources.find_source(name, SOURCES)
    word = "institution" if name in INSTITUTIONS else "group"
    about = {"kind": "published", "short_name": source.facts.short_name, "drawn": "", "record": source.record}
    return about | {"facts": source.facts.model_dump(), "group_word": word}


def describe_flow(
    name: str, dataset: Dataset, manifest: pd.DataFrame, findings: pd.DataFrame, excluded: int
) -> dict[str, Any]:
    """Numbers of the flow diagram, from published to included; `excluded` cases are named in the study file.

    `published` is None where the project draws the images or knows no count; `absent` are published cases that were
    not available or are in groups that the study does not use, None where there are none.
    """
    without = findings.loc[findings["check"] == NO_LANDMARKS.name, "found"].str.split().str[0].astype(int).sum()
    left_out = {"named in the study file": excluded, "without landmarks": int(without)}
    included = {"cases": len(manifest), "subjects": int(manifest["subject"].nunique())}
    available = included["cases"] + sum(left_out.values())
    published = _published(name, dataset)
    absent = published["cases"] - available if published else 0
    return {
        "published": published,
        "absent": absent if absent > 0 else None,
        "available": available,
        "excluded": [{"reason": reason, "cases": count} for reason, count in left_out.items() if count],
        "included": included,
    }


def _published(name: str, dataset: Dataset) -> dict[str, int | None] | None:
    """Cases and subjects as published; None for phantoms and own data."""
    if describe_source(name, dataset)["kind"] != "published":
        return None
    expected = sources.find_source(name, SOURCES).expected
    return {key: expected.get(key) for key in ("cases", "subjects")} if "cases" in expected else None


def describe_characteristics(
    words: characteristics.Words, manifest: pd.DataFrame, parts: dict[str, list[str]], lost: pd.DataFrame
) -> dict[str, Any]:
    """`characteristics.by_part`; `lost` has the reference voxels of volumes, from 02_preprocessing."""
    voxels = lost.set_index("case")["reference_voxels"] if words.case == "volume" else None
    return characteristics.by_part(manifest, parts, voxels, words)


def parts_of(folds: pd.DataFrame, tested: list[int], fold_count: int) -> dict[str, list[str]]:
    """Case names of each column: the parts of the tested fold, or each fold if several are tested and they are few."""
    if len(tested) == 1:
        names = {"train": "Training", "validation": "Validation", "test": "Test"}
        parts = splits.parts(folds, tested[0])
        columns = {title: parts[part] for part, title in names.items()}
    elif fold_count <= FEW_FOLDS:
        columns = {f"Fold {fold}": list(of_fold["case"]) for fold, of_fold in folds.groupby("fold")}
    else:
        columns = {"Tested": list(folds.loc[folds["fold"].isin(tested), "case"])}
    return columns | {"All": list(folds["case"])}


def published_results(name: str, dataset: Dataset, landmarks: bool) -> list[dict[str, Any]]:
    """Published results on a data set, by name; none for phantoms and own data."""
    is_published = describe_source(name, dataset)["kind"] == "published"
    return literature.beside(name, landmarks) if is_published else []
