"""The data sets that the project reads: one module a layout, one entry each here."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data import cases
from lib.data.cases import Case
from lib.data.dataset import Dataset, Making
from lib.data.findings import Check, Finding
from lib.datasets import brain_structures, busi, hc18, lgg, own, ultrasound_fetus
from lib.datasets.phantoms import cache, write_images, write_landmarks, write_volumes
from lib.study import files, params, provenance

TRUTH = "truth.csv"  # beside a phantom: what its program knows of each case, and no published data set has
OWN = "own_"  # beginning of the name of one's own data sets, which need no entry here
HEAD, BRAIN, LESION = ("background", "head"), ("background", "parenchyma", "csp", "lv"), ("background", "lesion")
TUMOUR = ("background", "tumour")

MISSING_TRUTH = Check("missing truth", "remove the phantom's folder; it is written again")


def _phantom(
    title: str,
    like: Dataset,
    write: Callable[[Path, int, int], None],
    size: int,
    modules: tuple[str, ...],
    subject: str = "examination",
) -> Dataset:
    """A data set in the layout of another, drawn by some modules of the package."""
    made = Making(write, size, write_images.SEED, tuple(f"lib.{name}" for name in modules))
    return replace(like, title=title, citation="phantom", licence="made by this project", subject=subject, made=made)


_HEADS = ("datasets.phantoms.write_images", "datasets.phantoms.heads", "datasets.phantoms.ultrasound", "imaging.growth")
_LESIONS = (
    "datasets.phantoms.write_images",
    "datasets.phantoms.lesions",
    "datasets.phantoms.ultrasound",
    "imaging.growth",
)


_HC18 = Dataset(
    "HC18, fetal head circumference", "hc18", "CC BY 4.0", "examination", HEAD, hc18.find_cases, hc18.read_mask
)
_BRAIN = Dataset(
    "Fetal brain structures (Alzubaidi et al.)",
    "alzubaidi",
    "CC BY 4.0",
    "patient",
    BRAIN,
    brain_structures.find_cases,
    brain_structures.read_mask,
    brain_structures.GROUPS,
)
_TUMOUR = Dataset(
    "Ultrasound fetus dataset (Anitha)",
    "anitha",
    "CC BY 4.0",
    "examination",
    TUMOUR,
    ultrasound_fetus.find_cases,
    ultrasound_fetus.read_mask,
    ultrasound_fetus.GROUPS,
    names_subjects=False,
)
_LGG = Dataset(
    "LGG, brain MRI of lower-grade glioma (kaggle_3m)",
    "buda",
    "CC BY-NC-SA 4.0",
    "patient",
    LESION,
    lgg.find_cases,
    lgg.read_mask,
    read_image=lgg.read_image,
    channels=3,
    shown_channel=1,
    volumes=True,
    inspect=lgg.inspect,
)
DATASETS: dict[str, Dataset] = {
    "hc18": _HC18,
    "lgg": _LGG,
    "brain_structures": _BRAIN,
    "ultrasound_fetus": _TUMOUR,
    "busi": Dataset(
        "BUSI, breast ultrasound images",
        "busi",
        "no licence stated, to be cited",
        "scene",
        LESION,
        busi.find_cases,
        busi.read_mask,
        busi.GROUPS,
        names_subjects=False,
    ),
    "phantom_brain": _phantom(
        "Phantom of fetal brain structures", _BRAIN, write_images.write_brain, write_images.BRAIN_SUBJECTS, _HEADS
    ),
    "phantom_brain_structures": _phantom(
        "Phantom of fetal brain structures, four groups",
        _BRAIN,
        write_images.write_brain_structures,
        write_images.BRAIN_STRUCTURES_SUBJECTS,
        _HEADS,
    ),
    "phantom_hc18": _phantom("Phantom of HC18", _HC18, write_images.write_hc18, write_images.HC18_SUBJECTS, _HEADS),
    "phantom_landmarks": _phantom(
        "Phantom of HC18 with landmarks",
        _HC18,
        write_landmarks.write_landmarks,
        write_landmarks.LANDMARK_SUBJECTS,
        (*_HEADS, "datasets.phantoms.write_landmarks"),
    ),
    "phantom_lgg": _phantom(
        "Phantom of brain MRI with lesions",
        _LGG,
        write_volumes.write_lgg,
        write_volumes.LGG_SUBJECTS,
        ("datasets.phantoms.write_volumes", "datasets.phantoms.brains"),
        subject="patient",
    ),
    "phantom_tumour": _phantom(
        "Phantom of a hypo-echoic mass", _TUMOUR, write_images.write_tumour, write_images.TUMOUR_SUBJECTS, _LESIONS
    ),
}


def of(study: params.Study) -> Dataset:
    """The data set of a study.

    Raises:
        ValueError: no such name, or classes, groups or colours that it does not have; all faults at once.
    """
    if study.dataset.startswith(OWN):
        return _own(study)
    if study.dataset not in DATASETS:
        raise ValueError(
            f"dataset = {study.dataset!r}   not known; allowed: {', '.join(DATASETS)}, or {OWN}<name> for one's own"
        )
    dataset = DATASETS[study.dataset]
    has_heads = study.landmarks == "none" or dataset.classes == HEAD
    steps_fit = not dataset.volumes or set(study.postprocessing) <= {"largest_component"}
    faults = [
        f"{key} = {value}   not those of {study.dataset}; allowed: {allowed}"
        for key, value, allowed, sound in (
            ("classes", study.classes, list(dataset.classes), tuple(study.classes) == dataset.classes),
            ("groups", study.groups, f"some of {list(dataset.groups)}", _groups_fit(study.groups, dataset.groups)),
            ("palette", study.palette, "[], because a published data set knows its colours", not study.palette),
            ("landmarks", study.landmarks, "none: it shows no heads", has_heads),
            ("postprocessing", study.postprocessing, "largest_component or [] for volumes", steps_fit),
        )
        if not sound
    ]
    if faults:
        raise ValueError("\n".join(faults))
    return dataset


def _groups_fit(chosen: list[str], known: tuple[str, ...]) -> bool:
    return set(chosen) <= set(known) and bool(chosen) == bool(known)


def _own(study: params.Study) -> Dataset:
    """One's own data: classes and colours are the study file's."""
    if study.groups:
        raise ValueError(f"groups = {study.groups}   one's own data has no groups; allowed: []")
    return Dataset(
        f"Own data ({study.dataset.removeprefix(OWN)})",
        "own",
        "not published",
        "subject",
        tuple(study.classes),
        own.find_cases,
        partial(own.read_mask, palette=study.palette, class_count=len(study.classes)),
    )


def find_cases(dataset: Dataset, folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:
    """Cases and findings of a folder; a phantom's cases with what its program knows of them.

    Raises:
        ValueError: the folder is not this layout.
    """
    found, findings = dataset.find_cases(folder, groups)
    if dataset.made is None:
        return found, findings
    truth = files.read_csv(folder / TRUTH, ["case"]).set_index("case")
    unknown = [case.name for case in found if case.name not in truth.index]
    findings += [Finding("stop", MISSING_TRUTH, name, f"no row in {TRUTH}", "one row an image") for name in unknown]
    return [_with_truth(case, truth.loc[case.name]) for case in found if case.name in truth.index], findings


def _with_truth(case: Case, row: pd.Series) -> Case:
    known = {q: float(row[f"{q}_mm"]) for q in cases.QUANTITIES if np.isfinite(row.get(f"{q}_mm", np.nan))}
    return replace(case, reference_mm=known or case.reference_mm, stratum=row.get("stratum", case.stratum))


def make(name: str, subjects: int, seed: int) -> None:
    """Writes a data set that the project makes itself, unless today's code has written it before.

    Raises:
        ValueError: the folder holds something that the project did not write.
    """
    made, folder = DATASETS[name].made, files.raw_folder(name)
    if made is None:
        raise ValueError(f"{name} is published, not made by this project")
    code = {module: provenance.module_hash(module) for module in made.modules}
    record = {"subjects": subjects, "seed": seed, "code": code}
    if cache.read_record(folder) != record:
        cache.write_whole(folder, record, lambda new: made.write(new, subjects, seed))


def prepare(name: str) -> Path:
    """The raw folder of a data set, made first if the project makes this data itself.

    A phantom that was written by other code is written again, with its own number of subjects and seed.

    Raises:
        ValueError: the folder is absent; the message says how to get it.
    """
    folder = files.raw_folder(name)
    made = DATASETS[name].made if name in DATASETS else None
    if made is not None:
        held = cache.read_record(folder)
        make(name, held.get("subjects", made.subjects), held.get("seed", made.seed))
    elif not folder.is_dir():
        raise ValueError(
            f"data/raw/{name}: no such folder; link your copy with 'make study STUDY=<name> DATA=<folder>', or see "
            f"'python -m lib download {name}'"
        )
    return folder


def landmarks_folder(name: str) -> Path:
    """Where the landmarks of a data set lie: data/raw/landmarks, of a phantom in its own folder.

    Raises:
        ValueError: the folder is absent; the message says how to get it.
    """
    made = name in DATASETS and DATASETS[name].made is not None
    folder = files.raw_folder(name) / "landmarks" if made else files.raw_folder("landmarks")
    if not folder.is_dir():
        raise ValueError(
            "data/raw/landmarks: no such folder; link your copy with 'make study STUDY=<name> LANDMARKS=<folder>', or "
            "see 'python -m lib download landmarks'"
        )
    return folder


def at_hand(besides: str) -> dict[str, Path]:
    """Folders of the published sets of images that lie in data/raw and say who is who, but for one."""
    telling = [
        name
        for name, each in DATASETS.items()
        if each.made is None and each.names_subjects and not each.volumes and name != besides
    ]
    return {name: files.raw_folder(name) for name in telling if files.raw_folder(name).is_dir()}


def recognise(folder: Path) -> str:
    """The registered data set whose layout a folder has: the one that finds most cases in it.

    Raises:
        ValueError: none; the message says what each layout misses.
    """
    found, said = {}, []
    for name, dataset in DATASETS.items():
        if dataset.made is not None:
            continue
        try:
            found[name] = len(dataset.find_cases(folder, dataset.groups)[0])
        except ValueError as error:
            said.append(f"  {name}: {error}")
    if not found:
        raise ValueError("\n".join([f"{folder}: of no known layout", *said]))
    return max(found, key=lambda name: found[name])
