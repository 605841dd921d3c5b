"""Values of a study file for custom data, proposed from the folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.data.cases import Case
from lib.data.findings import Finding
from lib.datasets import mask_classes, own, recognition
from lib.datasets.mask_classes import MaskClasses
from lib.study import param_faults, param_rules, params, study_files
from lib.study.raw_folders import OWN

FIRST_LINE = "Proposed from a folder of images and masks. Give the classes their names, and write title and author."
PROTOCOL = "hc18_quick"  # the study whose network and training are proposed
TO_REVIEW = ("classes", "palette", "image_size", "fold_count", "folds", "epochs")  # then words and later choices
TO_REVIEW += ("postprocessing", "head_classes", "title", "author", "degree", "institution", "supervisors")
FEW_CASES = 200  # up to which every fold is tested: each case once
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 600, 10, 300  # hc18_quick and busi_quick train for 600 to 700 steps
SMALLEST_SIDE = 32  # of `image_size`
THRESHOLDS = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7]
HEAD_CLASSES = (
    "nothing is measured as a head; for BPD, OFD and HC name the classes of the head, and copy max_axis_ratio, "
    "hc_range_mm and equivalence_margin_percent from hc18_quick"
)
OF_IMAGES = ("custom data sets", "images")  # options of which a study of custom data has the keys
OF_IMAGES += ("class regions with pixel sizes", "class regions without pixel sizes")

Values, Reasons = dict[str, Any], dict[str, str]


def read(folder: Path) -> tuple[list[Case], MaskClasses]:
    """Cases of a folder of custom data and the classes of its masks; ValueError for another folder or without cases."""
    name = recognition.recognise(folder)
    if name != recognition.CUSTOM:
        studies = study_files.with_value("dataset", name) or ["<study>"]
        advice = f"copy a study of it: python -m lib new <name> --like {studies[0]}"
        raise ValueError(f"{folder}: {recognition.title(name)}, not own data; {advice}")
    cases, findings = own.find_cases(folder, ())
    return cases, classes_of(folder, cases, findings)


def classes_of(folder: Path, cases: list[Case], findings: list[Finding]) -> MaskClasses:
    """Classes of the masks of custom data, given as its reader lists them; ValueError without cases."""
    if not cases:
        first = next((each for each in findings if each.severity == "stop"), findings[0])
        raise ValueError(f"{folder}: no image has a mask; the first: {first.case}: {first.check.name} ({first.found})")
    return mask_classes.infer([case.mask[0] for case in cases])


def propose(study: str, folder: Path, protocol: Mapping[str, Any], like: str) -> tuple[Values, Reasons]:
    """Values of a complete study and the reasons of those that the folder or the kind of data decides.

    Network, training and augmentation keys are those of the study `like`, given as `protocol`. ValueError if that is
    not of images and class regions, or the folder is not of custom data with three subjects or more.
    """
    if protocol["landmarks"] != "none" or "clahe_probability" not in protocol:
        raise ValueError(f"--like {like}: a study of landmarks or volumes; expected one of images and class regions")
    cases, classes = read(folder)
    values, reasons = _fixed(study, classes)
    for more in (network_size(classes.median_size, protocol), folds_and_epochs(cases, protocol["batch_size"])):
        values |= {key: value for key, (value, _) in more.items()}
        reasons |= {key: reason for key, (_, reason) in more.items()}
    return _used(dict(protocol) | values), reasons


def _fixed(study: str, classes: MaskClasses) -> tuple[Values, Reasons]:
    """Values that follow from the name and the classes."""
    foreground = [0.0] + [1.0] * (len(classes.names) - 1)
    dataset = study if study.startswith(OWN) else OWN + study
    rows: dict[str, tuple[Any, str]] = {
        "study": (study, "the name of this file"),
        "dataset": (dataset, "data/raw/" + dataset + f", linked by 'make study STUDY={study} DATA=<folder>'"),
        "classes": (classes.names, f"from {classes.source}"),
        "palette": (
            classes.palette,
            "colours of the classes in the masks" if classes.palette else _no_palette(classes),
        ),
        "exclude": ([], "no case is excluded"),
        "dice_class_weights": (foreground, "the background does not count"),
        "cross_entropy_class_weights": ([1.0] * len(classes.names), "all classes equal"),
        "selection_class_weights": (foreground, "the background does not count"),
        "oversample_classes": ([], "every image equally often"),
        "threshold_candidates": (THRESHOLDS, "foreground probabilities; the validation cases decide which is used"),
        "postprocessing": ([], "none before the first predictions have been seen"),
        "nsd_tolerance_mm": (1.0, "of NSD: a chosen limit; better the variability of those who drew the masks"),
        "nsd_tolerance_px": (3.0, "the same for images without a pixel size"),
        "head_classes": ([], HEAD_CLASSES),
        "compare_with": ([], "not compared with another study"),
        "title": (f"Segmentation of {study.removeprefix(OWN).replace('_', ' ')}", "to be written by you"),
        "author": ("", "your name, for the title page"),
        "degree": ("", "such as Master of Science; empty: not printed"),
        "institution": ("", "your university or hospital; empty: not printed"),
        "supervisors": ([], "names in a list; []: not printed"),
    }
    return {key: value for key, (value, _) in rows.items()}, {key: reason for key, (_, reason) in rows.items()}


def _no_palette(classes: MaskClasses) -> str:
    two = len(classes.names) == 2
    return f"grey values of the masks are {'the two classes' if two else 'class indices'}: {', '.join(classes.values)}"


def network_size(native: tuple[int, int], protocol: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Network size: the median native size scaled to the protocol's number of pixels, never enlarged."""
    rows, columns = protocol["image_size"]
    scale = min(1.0, (rows * columns / (native[0] * native[1])) ** 0.5)
    multiple = 2 ** protocol["depth"]
    size = [
        max(param_rules.nearest_multiple(round(side * scale), multiple), -(-SMALLEST_SIDE // multiple) * multiple)
        for side in native
    ]
    reason = f"median image {native[0]} x {native[1]}, scaled by {scale:.2g} to multiples of {multiple}"
    return {"image_size": (size, reason)}


def folds_and_epochs(cases: list[Case], batch_size: int) -> dict[str, tuple[Any, str]]:
    """Folds by the number of subjects, epochs by that of training cases; ValueError for fewer than three subjects."""
    subjects = len({case.subject for case in cases})
    if subjects < 3:
        raise ValueError(f"{subjects} subjects; expected 3 or more: training, validation and test share no subject")
    count = max(3, min(5, subjects // 2))
    few = len(cases) <= FEW_CASES
    tested = "every case is tested once" if few else f"one fold is tested; {list(range(count))} tests every case once"
    training = max(1, len(cases) * (count - 2) // count)  # one fold tests, one validates
    steps = -(-training // batch_size)
    epochs = min(max(round(STEPS / steps), FEWEST_EPOCHS), MOST_EPOCHS)
    return {
        "epochs": (epochs, f"{epochs * steps} training steps: {training} training images in batches of {batch_size}"),
        "fold_count": (count, f"{len(cases)} images of {subjects} subjects"),
        "folds": (list(range(count)) if few else [0], tested),
    }


def _used(values: Values) -> Values:
    """The values without keys that no selected option uses, or that only other data sets have."""
    used = param_faults.uses(values, params.Study)
    kept = {}
    for key, value in values.items():
        option = param_faults.option_of(params.Study, key)
        other = option in param_rules.OF_DATASET and option not in OF_IMAGES
        if not other and used.get(key, True):
            kept[key] = value
    return kept
