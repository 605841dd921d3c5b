"""Which data set a folder contains: a published one, a phantom, custom data, landmark tables, or others below it."""

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from lib.data.cases import Case
from lib.datasets import DATASETS, brain_structures, landmark_tables, layouts, own
from lib.datasets.phantoms import cache
from lib.imaging.image_files import IMAGE_SUFFIXES
from lib.study import files, param_faults, system_files
from lib.study.raw_folders import HOWTO

CUSTOM, LANDMARKS = "own", "landmarks"  # names of the two layouts that are not in DATASETS
TITLES = {CUSTOM: "Own data", LANDMARKS: "Landmarks of fetal heads, tables without images"}
# Names in the top folder of a layout, in lower case without other signs than letters and digits.
SIGNS = {
    CUSTOM: "images|imgs|train|masks|trainmasks|labels",
    LANDMARKS: "multicentre|rolechallenge.*",
    "hc18": "trainingset.*",
    "lgg": "kaggle3m|tcga.+",
    "brain_structures": f".*({'|'.join(brain_structures.GROUP_WORDS)}).*",
    "ultrasound_fetus": "train|validation|valid|val|test|ultrasoundfetusdataset",
    "busi": "datasetbusiwithgt|benign|malignant|normal",
}
PUBLISHED = [name for name, dataset in DATASETS.items() if dataset.phantom is None]
EXPECTED = (
    f"expected images/ and masks/ of your own ({HOWTO}), or a published data set as unpacked: {', '.join(PUBLISHED)}"
)
DEPTH = 2  # folders below a folder in which data sets are searched
NESTED = 4  # the same for the names of a published layout, as its publisher nests it


def recognise(folder: Path) -> str:
    """Name of the data set in a folder: one in DATASETS (a phantom's if it is one), CUSTOM or LANDMARKS.

    Of several layouts, the one with the most cases. ValueError, with what was found and what to do next, if the folder
    is missing, empty, of no known layout, a part of a data set, or contains data sets in its subfolders.
    """
    _refuse_missing(folder)
    if folder.resolve() == files.ROOT:
        raise ValueError(f"{folder}: the folder of this project, not a data set{_list(below(_linked(), 1))}")
    name, faults = _at_top(folder)
    if name:
        return name
    others = below(folder)
    if len(others) < 2 and (name := _deeper(folder)):
        return name
    raise ValueError(f"{folder}: {_describe_unknown(folder, others, faults)}")


def title(name: str) -> str:
    """Title of a recognised data set."""
    return DATASETS[name].title if name in DATASETS else TITLES[name]


def below(folder: Path, depth: int = DEPTH) -> list[tuple[Path, str]]:
    """(path, name) of each data set in the subfolders of a folder, without hidden, unreadable and project folders."""
    found = []
    for child in layouts.folders(folder):
        if not _may_be_data(child):
            continue
        try:
            name, _ = _at_top(child)
        except PermissionError:  # a folder in it may not be read
            continue
        found += [(child, name)] if name else below(child, depth - 1) if depth > 1 else []
    return found


def _may_be_data(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK) and folder.resolve() != files.ROOT


def _linked() -> Path:
    return files.ROOT / "data" / "raw"


def _refuse_missing(folder: Path) -> None:
    if folder.is_file():
        advice = "unpack it" if folder.suffix.lower() in (".zip", ".gz", ".tar", ".7z", ".rar") else "name its folder"
        raise ValueError(f"{folder}: a file; expected the folder of a data set ({advice})")
    if not folder.is_dir():
        siblings = [path.name for path in layouts.folders(folder.parent)]
        nearest = param_faults.nearest(folder.name, siblings) or "; check the path"
        raise ValueError(f"{folder}: no such folder{nearest}")
    if not system_files.visible(folder):
        raise ValueError(f"{folder}: the folder is empty; {EXPECTED}")


def _signed(names: Iterable[str]) -> list[str]:
    """Layouts of which names are in a folder, those with the most names first."""
    keys = [re.sub("[^a-z0-9]", "", name.casefold()) for name in names]
    counts = {name: sum(re.fullmatch(signs, key) is not None for key in keys) for name, signs in SIGNS.items()}
    return sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])


def _at_top(folder: Path) -> tuple[str, list[str]]:
    """Name of the data set whose names are in the folder itself, or ""; and why each such layout does not fit."""
    counts, faults = _read(folder, _signed(path.name for path in system_files.visible(folder)))
    best = max(counts, key=lambda name: len(counts[name])) if counts else ""
    return _as_phantom(folder, best), faults


def _read(folder: Path, names: Sequence[str]) -> tuple[dict[str, list], list[str]]:
    """Cases (rows of tables for landmarks) by layout, and the fault of each layout that does not fit."""
    found, faults = {}, []
    for name in names:
        try:
            if name == LANDMARKS:
                found[name] = landmark_tables.tables(folder)
            elif name == CUSTOM:
                found[name], _ = own.find_cases(folder, ())
            else:
                found[name], _ = DATASETS[name].find_cases(folder, DATASETS[name].groups)
        except ValueError as error:
            faults.append(f"{title(name)}: {str(error).removeprefix(f'{folder}: ')}")
    return found, faults


def _deeper(folder: Path) -> str:
    """Name of a published data set that is nested in a folder, as some publishers do; "" for none or a phantom."""
    signed = {layout for names in _nested(folder) for layout in _signed(names)}
    found, _ = _read(folder, [name for name in PUBLISHED if name in signed])
    real = {name: cases for name, cases in found.items() if not _is_generated(folder, cases)}
    return max(real, key=lambda name: len(real[name])) if real else ""


def _nested(folder: Path) -> list[list[str]]:
    """Names in a folder and in those up to NESTED levels below it, each once, without those that may not be read."""
    level, visited, names = [str(folder)], set(), []
    for _ in range(NESTED + 1):
        new = {os.path.realpath(at): at for at in level}
        level = []
        for place in new.keys() - visited:
            with suppress(PermissionError), os.scandir(new[place]) as entries:
                known = [entry for entry in entries if not system_files.is_system(entry.name)]
                names.append([entry.name for entry in known])
                level += [entry.path for entry in known if os.path.isdir(entry.path)]
        visited |= new.keys()
    return names


def _is_generated(folder: Path, cases: list[Case]) -> bool:
    parents = {parent for case in cases[:1] for parent in case.image.parents if parent.is_relative_to(folder)}
    return any((parent / cache.RECORD).is_file() for parent in parents)


def _as_phantom(folder: Path, name: str) -> str:
    """The name of a phantom in this layout, its own if the folder has it, for a folder that this project generated."""
    if name not in DATASETS or not (folder / cache.RECORD).is_file():
        return name
    find_cases = DATASETS[name].find_cases
    phantoms = [key for key, each in DATASETS.items() if each.phantom is not None and each.find_cases is find_cases]
    return folder.name if folder.name in phantoms else phantoms[0]


def _describe_unknown(folder: Path, others: list[tuple[Path, str]], faults: list[str]) -> str:
    """What an unknown folder contains and what to do next."""
    if others:
        return f"{f'not complete as {faults[0]}' if faults else 'not a data set itself'}{_list(others)}"
    for parent in (folder.absolute().parent, folder.absolute().parent.parent):
        name = _at_top(parent)[0] if _may_be_data(parent) else ""
        if name:
            return f"a part of {title(name)}; verify the whole: {verify_command(parent)}"
    if faults:
        return f"not complete as {faults[0]}"
    names = [path.name for path in system_files.visible(folder)]
    images = sum(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names)
    if images:
        return f"{images} image file{'s' * (images > 1)}, no folder of masks; {EXPECTED}"
    packed = [name for name in names if name.lower().endswith(".zip")]
    return f"no data set is known by these names: {', '.join(names[:8])}; " + (
        f"unpack {packed[0]} first" if packed else EXPECTED
    )


def _list(found: list[tuple[Path, str]]) -> str:
    """Data sets below a folder with the command that verifies each."""
    if not found:
        return f"; {EXPECTED}"
    commands = [(verify_command(path), title(name)) for path, name in found]
    width = max(len(command) for command, _ in commands)
    return "; below it:" + "".join(f"\n    {command.ljust(width)}   # {text}" for command, text in commands)


def verify_command(folder: Path) -> str:
    """The command that verifies a folder."""
    return f"python -m lib verify {shlex.quote(str(folder))}"
