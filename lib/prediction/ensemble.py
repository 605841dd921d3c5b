"""The trained networks that answer together: which files they are, and whether they fit each other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.imaging.class_colours import class_colour
from lib.models import devices, trained_model
from lib.models.trained_model import Model
from lib.study import files, param_faults, steps, study_files

SUFFIX = ".safetensors"
SUMS = "SHA256SUMS"  # of a folder of shipped models, as sha256sum writes it
ALWAYS = ("format", "classes", "landmarks", "flip_average", "head_classes", "licence", "display_channel")
OF_REGIONS = ("threshold", "postprocessing")
OF_HEADS = ("max_axis_ratio", "hc_range_mm", "flags", "intervals")
# What the members of an ensemble may differ in; all else decides what an answer means.
OF_ONE_RUN = ("fold", "seed", "threshold", "flags", "intervals", "checksum", "training_precision")
EXPECTED = "expected a study's name, a file of its 05_evaluation/models, or a folder of such files"


@dataclass(frozen=True)
class Ensemble:
    """One network, or several of one study that answer together."""

    members: list[Model]
    names: list[str]  # of their files

    @property
    def about(self) -> dict[str, Any]:
        """Metadata that all members share."""
        return self.members[0].about

    @property
    def is_volume(self) -> bool:
        """Whether a case is a volume of slices."""
        return bool(self.about["preparation"]["volumes"])

    @property
    def is_landmark(self) -> bool:
        """Whether endpoints are predicted, and no regions."""
        return bool(self.about["landmarks"] != "none")

    @property
    def threshold(self) -> float | None:
        """Foreground probability from which a pixel is foreground, the mean of the members' own; None for argmax."""
        chosen = [member.about["threshold"] for member in self.members]
        return None if None in chosen else sum(chosen) / len(chosen)

    @property
    def head(self) -> list[int]:
        """Indices of the classes whose union is the head; [] if none is measured."""
        return [self.about["classes"].index(name) for name in self.about["head_classes"]]

    @property
    def limits(self) -> dict[str, float]:
        """Limit of each flag of a head, the mean of the members' own; {} if none were chosen."""
        chosen = [member.about["flags"]["limits"] for member in self.members]
        names = [name for name in chosen[0] if all(name in of for of in chosen)]
        return {name: sum(of[name] for of in chosen) / len(chosen) for name in names}

    @property
    def usual_greys(self) -> list[float]:
        """Distribution of the grey values of training images (`quality.usual_greys`), the mean of the members'."""
        return np.mean([member.about["flags"]["usual_greys"] for member in self.members], axis=0).tolist()

    @property
    def intervals(self) -> dict[str, Any]:
        """Constants of the intervals (`evaluation.intervals.constants`), without a bound where none is known.

        Of several members: the largest bound of each quantity, and the fewest subjects and images. None is known of
        predictions that are averaged with the mirrored image, or not, other than those on which it was calibrated.
        """
        each = [member.about["intervals"] for member in self.members]
        is_calibrated = all(member.flip_average == member.about["flip_average"] for member in self.members)
        bounds = {}
        for quantity in each[0]["error_per_root"]:
            of_members = [constants["error_per_root"][quantity] for constants in each]
            bounds[quantity] = max(of_members) if is_calibrated and None not in of_members else None
        counts = {name: min(constants[name] for constants in each) for name in ("subjects", "images")}
        return {"level": each[0]["level"]} | counts | {"error_per_root": bounds}

    @property
    def colours(self) -> dict[str, str]:
        """Colour of each class but the background, as #RRGGBB."""
        return {name: class_colour(name) for name in self.about["classes"][1:]}

    def describe(self) -> str:
        """The study and its models in one line."""
        named = self.names[0] if len(self.names) == 1 else f"mean of {len(self.names)} models"
        return f"{self.about['study']} ({named})"


def find(model: str) -> list[Path]:
    """Weights files of a study by its name, of a folder, or one file; ValueError if there is none."""
    path = Path(model)
    if path.is_file() or path.suffix == SUFFIX:
        return [path]
    is_name = study_files.NAME.fullmatch(model) is not None
    study = study_files.study_name(model) if is_name else ""
    evaluated = files.study_folder(study) / "05_evaluation" / "models"
    if is_name and (evaluated.is_dir() or files.study_file(study).is_file()):
        found = sorted(evaluated.glob(f"*{SUFFIX}")) if evaluated.is_dir() else []
        if not found:
            made = "make demo" if study == "demo" else f"make study STUDY={study}"
            raise ValueError(f"{evaluated}: no models; '{made}' trains and evaluates them")
        return found
    if path.is_dir():
        found = sorted(path.glob(f"*{SUFFIX}"))
        if not found:
            raise ValueError(f"{path}: no files *{SUFFIX}; {EXPECTED}")
        _require_shipped(path, found)
        return found
    nearest = param_faults.nearest_studies(path.stem, study_files.names()) if is_name else ""
    raise ValueError(f"{model}: no such model; {EXPECTED}{nearest}")


def _require_shipped(folder: Path, found: Sequence[Path]) -> None:
    """ValueError if models of a folder of shipped ones (with SUMS) are missing, added or changed: answers would be."""
    if not (folder / SUMS).is_file():
        return
    listed = {name: value for name, value in read_sums(folder / SUMS).items() if name.endswith(SUFFIX)}
    now = {path.name: files.sha256(path) for path in found}
    for name in sorted(listed.keys() | now.keys()):
        if listed.get(name) != now.get(name):
            what = "missing" if name not in now else "not listed" if name not in listed else "changed"
            advice = "copy the whole folder again, or name one file of it"
            raise ValueError(f"{folder / name}: {what} ({SUMS} of the folder differs); {advice}")


def read_sums(path: Path) -> dict[str, str]:
    """SHA-256 by file name, from lines as sha256sum writes them; ValueError for another line."""
    sums = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        value, mark, name = line[:64], line[64:66], line[66:]
        if not name or mark not in ("  ", " *") or not re.fullmatch("[0-9a-f]{64}", value):
            raise ValueError(f"{path}, line {number}: {line!r}; expected a SHA-256, two blanks and a file's name")
        sums[name] = value
    return sums


def load(model: str | Path, device: str = "auto", flip_average: bool | None = None) -> Ensemble:
    """The ensemble of a study's name, a file or a folder (`find`).

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:<index>` or `mps`.
        flip_average: whether to average with the prediction of the mirrored image; None: as the study was evaluated.

    Raises:
        ValueError: a file is not of this project, has changed, is of a newer version or lacks what its use needs (the
            right file, or the command that writes it, is named); or the files are not of one kind.
    """
    paths, on = find(str(model)), devices.choose(device)
    members = []
    for path in paths:
        member = trained_model.load(path, False, on)
        require_use(path, member.about)
        flips = member.about["flip_average"] if flip_average is None else flip_average
        members.append(Model(member.network, member.about, flips, on))
    _require_equal(paths, members)
    return Ensemble(members, [path.name for path in paths])


def require_use(path: Path, about: dict[str, Any]) -> None:
    """ValueError unless the metadata hold all that a prediction needs; names the right file, or how to write it."""
    study, run = about.get("study", "<study>"), path.parent.name
    if "flip_average" not in about:
        right = f"reports/{study}/05_evaluation/models/{run}{SUFFIX}"
        raise ValueError(
            f"{path}: weights of 04_training, without the threshold and post-processing that 05_evaluation selected; "
            f"use {right}, or the study's name, {study}"
        )
    needed = [*ALWAYS, *(OF_REGIONS if about.get("landmarks") == "none" else ())]
    needed += OF_HEADS if about.get("head_classes") else ()
    absent = [name for name in needed if name not in about]
    if absent:
        notebook = "05_evaluation" + ("" if about.get("landmarks") == "none" else steps.OF_LANDMARKS)
        raise ValueError(
            f"{path}: the metadata lack {', '.join(absent)} (written by an older version); '.venv/bin/papermill "
            f"notebooks/{notebook}.ipynb out.ipynb -f params/{study}.yaml' evaluates the study again without training "
            "and writes the file anew"
        )


def _require_equal(paths: Sequence[Path], members: Sequence[Model]) -> None:
    """ValueError if the models are of different studies or were evaluated differently."""
    first = members[0].about
    for path, member in zip(paths[1:], members[1:]):
        names = sorted((first.keys() | member.about.keys()) - set(OF_ONE_RUN))
        differ = [name for name in names if first.get(name) != member.about.get(name)]
        if differ:
            values = param_faults.shown(member.about.get(differ[0])), param_faults.shown(first.get(differ[0]))
            raise ValueError(
                f"{path}: {differ[0]} = {values[0]}, but {values[1]} in {paths[0].name}; the models of an ensemble are "
                "the runs of one study, evaluated together"
            )
