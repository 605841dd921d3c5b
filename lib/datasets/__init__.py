"""Registry of the data sets; each published layout has its own module."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from lib.data import cases
from lib.data.cases import Case
from lib.data.dataset import Dataset, Phantom
from lib.data.findings import Check, Finding
from lib.datasets import brain_structures, busi, hc18, layouts, lgg, own, ultrasound_fetus
from lib.datasets.phantoms import TRUTH, cache, write_images, write_landmarks, write_volumes
from lib.study import files, param_faults, params, provenance, raw_folders
from lib.study.raw_folders import OWN

PHANTOM_CODE = ("lib.datasets.phantoms.", "lib.imaging.")  # prefixes of modules that determine a phantom's files
HEAD, BRAIN, LESION = ("background", "head"), ("background", "parenchyma", "csp", "lv"), ("background", "lesion")
TUMOUR = ("background", "tumour")

MISSING_TRUTH = Check("missing truth", "remove the phantom's folder; it will be rewritten")


def _published(
    reader: ModuleType, title: str, citation: str, licence: str, subject: str, classes: tuple[str, ...]
) -> Dataset:
    """A data set with the functions and groups of its reader module."""
    groups = getattr(reader, "GROUPS", ())
    return Dataset(title, citation, licence, subject, classes, reader.find_cases, reader.read_mask, groups)


def _phantom(
    title: str, like: Dataset, write: Callable[[Path, int, int], None], size: int, short_name: str, drawn: str
) -> Dataset:
    """A generated data set in the layout of another."""
    subject = "patient" if like.volumes else "examination"
    phantom = Phantom(write, size, write_images.SEED, short_name, drawn)
    title, licence = f"Phantom of {title}", "made by this project"
    known = "none" if like.pixel_sizes == "none" else "all"
    about = {"citation": "phantom", "licence": licence, "subject": subject, "pixel_sizes": known}
    return replace(like, title=title, phantom=phantom, **about)


_HC18 = replace(
    _published(hc18, "HC18, fetal head circumference", "hc18", "CC BY 4.0", "examination", HEAD), outlines=True
)
_BRAIN = _published(
    brain_structures, "Fetal brain structures (Alzubaidi et al.)", "alzubaidi", "CC BY 4.0", "patient", BRAIN
)
_LGG = replace(
    _published(lgg, "LGG, brain MRI of lower-grade glioma (kaggle_3m)", "buda", "CC BY-NC-SA 4.0", "patient", LESION),
    read_image=lgg.read_image,
    channels=3,
    display_channel=lgg.FLAIR,
    pixel_sizes="some",
    volumes=True,
    inspect=lgg.inspect,
)
_TUMOUR = replace(
    _published(ultrasound_fetus, "Ultrasound fetus dataset (Anitha)", "anitha", "CC BY 4.0", "examination", TUMOUR),
    names_subjects=False,
    groups_without_references=ultrasound_fetus.WITHOUT_OUTLINES,
    pixel_sizes="none",
)
_BUSI = _published(busi, "BUSI, breast ultrasound images", "busi", "no licence stated, to be cited", "scene", LESION)
DATASETS: dict[str, Dataset] = {
    "hc18": _HC18,
    "lgg": _LGG,
    "brain_structures": _BRAIN,
    "ultrasound_fetus": _TUMOUR,
    "busi": replace(_BUSI, names_subjects=False, pixel_sizes="none"),
}
_ULTRASOUND = "in simulated ultrasound, with speckle, shadows and log compression"
_PHANTOMS = {  # title, layout, function that writes the files, default number of subjects, short name, what is drawn
    "brain": (
        "fetal brain structures",
        _BRAIN,
        write_images.write_brain,
        write_images.BRAIN_SUBJECTS,
        "the fetal-brain phantom",
        f"fetal heads {_ULTRASOUND}; some images show a cavum septi pellucidi, a lateral ventricle, or both",
    ),
    "brain_structures": (
        "fetal brain structures, four groups",
        _BRAIN,
        write_images.write_brain_structures,
        write_images.BRAIN_STRUCTURES_SUBJECTS,
        "the fetal-brain phantom of four groups",
        f"fetal heads {_ULTRASOUND}, in four groups that differ in size of the frame and in the structures shown",
    ),
    "hc18": (
        "HC18",
        _HC18,
        write_images.write_hc18,
        write_images.HC18_SUBJECTS,
        "the fetal-head phantom",
        f"fetal heads {_ULTRASOUND}, each with a drawn outline of the skull",
    ),
    "landmarks": (
        "HC18 with landmarks",
        _HC18,
        write_landmarks.write_landmarks,
        write_landmarks.LANDMARK_SUBJECTS,
        "the fetal-head phantom with landmarks",
        f"fetal heads {_ULTRASOUND}, each with a drawn outline of the skull",
    ),
    "lgg": (
        "brain MRI with lesions",
        _LGG,
        write_volumes.write_lgg,
        write_volumes.LGG_SUBJECTS,
        "the brain MRI phantom",
        "axial brain MRI in three sequences, with or without a lesion; the simulated groups differ in grey scale, "
        "noise and pixel size, and in some volumes a sequence is a copy of FLAIR",
    ),
    "tumour": (
        "a hypo-echoic mass",
        _TUMOUR,
        write_images.write_tumour,
        write_images.TUMOUR_SUBJECTS,
        "the soft-tissue phantom",
        f"layers of soft tissue {_ULTRASOUND}, with or without one mass",
    ),
}
DATASETS |= {f"phantom_{name}": _phantom(*entry) for name, entry in _PHANTOMS.items()}


def custom(name: str, classes: Sequence[str], palette: list[list[int]]) -> Dataset:
    """A custom data set; palette as in `own.read_mask`."""
    read_mask = partial(own.read_mask, palette=palette, class_count=len(classes))
    about = f"Own data ({name})", "", "not publicly available", "subject"
    return Dataset(*about, tuple(classes), own.find_cases, read_mask, pixel_sizes="some")


def of(study: params.Study) -> Dataset:
    """The data set of a study, a custom one by its study file; ValueError listing all faults of name, values, keys."""
    if study.dataset.startswith(OWN):
        dataset = custom(study.dataset.removeprefix(OWN), study.classes, study.palette or [])
    elif study.dataset in DATASETS:
        dataset = DATASETS[study.dataset]
    else:
        allowed = f"{', '.join(DATASETS)}, or {OWN}<name> for your own data"
        raise ValueError(f"dataset = {study.dataset!r}   unknown; allowed: {allowed}")
    has_heads = not study.learns_landmarks or dataset.classes == HEAD or study.dataset.startswith(OWN)
    steps_fit = not dataset.volumes or set(study.postprocessing or []) <= {"largest_component"}
    groups_fit = not dataset.groups or set(study.groups or []) <= set(dataset.groups)
    rules = (
        ("classes", tuple(study.classes) == dataset.classes, list(dataset.classes)),
        ("groups", groups_fit, f"a subset of {list(dataset.groups)}"),
        ("landmarks", has_heads, "none, since the data set contains no heads"),
        ("postprocessing", steps_fit, "largest_component or [] for volumes"),
    )
    wrong = [(key, getattr(study, key), allowed) for key, fits, allowed in rules if not fits]
    faults = [f"{key} = {value}   does not fit {study.dataset}; allowed: {allowed}" for key, value, allowed in wrong]
    faults += _key_faults(study, dataset)
    if faults:
        raise ValueError("\n".join(faults))
    return dataset


def _key_faults(study: params.Study, dataset: Dataset) -> list[str]:
    """One line per key that this data set needs but the study lacks, or that it does not use."""
    is_kind = {
        "custom data sets": study.dataset.startswith(OWN),
        "data sets of several groups": bool(dataset.groups),
        "volumes": dataset.volumes,
        "images": not dataset.volumes,
        "class regions with pixel sizes": not study.learns_landmarks and dataset.pixel_sizes != "none",
        "class regions without pixel sizes": not study.learns_landmarks and dataset.pixel_sizes != "all",
    }
    faults = []
    for name, field in params.Study.model_fields.items():
        option, value = param_faults.option_of(params.Study, name), getattr(study, name)
        is_null = value is None and not (field.json_schema_extra or {}).get("nullable", False)
        if is_kind.get(option) is False and name in study.model_fields_set:
            faults.append(f"{name} = {value!r}   not used with {study.dataset}; requires {option}")
        elif is_kind.get(option) and (name not in study.model_fields_set or is_null):
            faults.append(f"{name}   missing; {study.dataset} requires it, as all {option} do: {field.description}")
    return faults


def find_cases(dataset: Dataset, folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:
    """Cases and findings of a folder, a phantom's with their true measurements; ValueError for another layout."""
    found, findings = dataset.find_cases(folder, groups)
    findings += layouts.passed_over(folder)
    if dataset.phantom is None:
        return found, findings
    truth = read_truth(folder).set_index("case")
    unknown = [case.name for case in found if case.name not in truth.index]
    findings += [Finding("stop", MISSING_TRUTH, name, f"no row in {TRUTH}", "one row per image") for name in unknown]
    return [_with_truth(case, truth.loc[case.name]) for case in found if case.name in truth.index], findings


def read_truth(folder: Path) -> pd.DataFrame:
    """Exact measurements of a phantom's cases, one row each."""
    return files.read_csv(folder / TRUTH, ["case"])


def truth_of(name: str) -> pd.DataFrame | None:
    """`read_truth` of a data set that the project generates; None for others."""
    return read_truth(files.raw_folder(name)) if _is_phantom(name) else None


def _is_phantom(name: str) -> bool:
    return name in DATASETS and DATASETS[name].phantom is not None


def _with_truth(case: Case, row: pd.Series) -> Case:
    known = {q: float(row[f"{q}_mm"]) for q in cases.QUANTITIES if np.isfinite(row.get(f"{q}_mm", np.nan))}
    return replace(case, reference_mm=known or case.reference_mm, stratum=row.get("stratum", case.stratum))


def make(name: str, subjects: int, seed: int) -> None:
    """Writes a phantom unless it is up to date with code, size and seed; ValueError if its folder has other files."""
    phantom, folder = DATASETS[name].phantom, files.raw_folder(name)
    if phantom is None:
        raise ValueError(f"{name} is a published data set and cannot be generated")
    modules = sorted(provenance.reachable({phantom.write.__module__}))
    code = {module: provenance.module_hash(module) for module in modules if module.startswith(PHANTOM_CODE)}
    record = {"subjects": subjects, "seed": seed, "code": code}
    if cache.read_record(folder) != record:
        cache.write_atomically(folder, record, lambda new: phantom.write(new, subjects, seed))


def prepare(name: str) -> Path:
    """The raw folder of a data set, a phantom's brought up to date with its recorded size; ValueError if missing."""
    folder = files.raw_folder(name)
    phantom = DATASETS[name].phantom if name in DATASETS else None
    if phantom is not None:
        record = cache.read_record(folder)
        make(name, record.get("subjects", phantom.subjects), record.get("seed", phantom.seed))
    return _existing(folder, name, "DATA")


def landmarks_folder(name: str) -> Path:
    """Folder of a data set's landmarks: data/raw/landmarks, or in a phantom's folder; ValueError if missing."""
    folder = files.raw_folder(name) / "landmarks" if _is_phantom(name) else files.raw_folder("landmarks")
    return _existing(folder, "landmarks", "LANDMARKS")


def _existing(folder: Path, name: str, option: str) -> Path:
    fault = raw_folders.fault(folder, name, option)
    if fault:
        raise ValueError(fault)
    return folder


def acronyms() -> list[str]:
    """Names such as HC18 with which the titles of published data sets start."""
    words = (re.match(r"[A-Z0-9]{3,}\b", dataset.title) for dataset in DATASETS.values())
    return [word[0] for word in words if word]


def available(besides: str) -> dict[str, Path]:
    """Folders of the other published image data sets in data/raw that identify subjects."""
    folders = {
        name: files.raw_folder(name)
        for name, dataset in DATASETS.items()
        if dataset.is_searchable and dataset.names_subjects and name != besides
    }
    return {name: folder for name, folder in folders.items() if folder.is_dir()}
