"""Studies of every kind, made up and small enough to know every number, as their steps would leave them."""

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
from pypdf import PdfReader

from lib import datasets, metrics
from lib.data import cases, findings, splits
from lib.datasets import lgg
from lib.evaluation import biometry, comparison, landmarks, training_precision
from lib.imaging import head_points
from lib.report import build, figures, tables
from lib.report.content import read_table
from lib.report.summaries import biometry_errors, dice, landmark_errors, paired, patients
from lib.study import files, params, steps
from lib.verification import case_checks, landmark_audit, overview, rehosted

CASES = 20
SLICES = 24  # of the first volume; the others have up to 3 fewer
VERSIONS = {"python": "3.11", "numpy": "2.0"}
DATE = "2026-11-21 15:57 UTC"
OTHER = "another_study"  # that one is compared with
LAST_IS_ABSENT = 3  # place of a test volume whose reference shows nothing, and of which nothing is predicted


def write_study(study: params.Study) -> None:
    """Small files of every step."""
    write_verification(study)
    write_preprocessing(study)
    write_model_and_run(study)
    write_regions(study) if study.landmarks == "none" else write_points(study)
    write_biometry(study)
    if study.compare_with:
        write_comparison(study)
    write_records(study)


def save_all(folder: Path, made: dict[str, pd.DataFrame]) -> None:
    for name, table in made.items():
        tables.save(table, folder / "tables" / name)


def folder(study: params.Study, name: str) -> Path:
    return files.study_folder(study.study) / name


def is_of_volumes(study: params.Study) -> bool:
    return datasets.of(study).volumes


def manifest_of(study: params.Study) -> pd.DataFrame:
    """20 cases of two groups; with pixel sizes and HC where the study measures heads; a volume a subject."""
    volumes = is_of_volumes(study)
    names = [f"case{index:02d}" for index in range(CASES)]
    subjects = [f"s{index if volumes else index // 2:02d}" for index in range(CASES)]
    table = pd.DataFrame({"case": names, "subject": subjects})
    table = table.reindex(columns=cases.CASE_COLUMNS).astype({"split": str, "stratum": str, "fold_group": str})
    table["fold_group"], table["stratum"], table["split"] = table["subject"], ["low", "low", "high", "high"] * 5, ""
    table["height"], table["width"] = 270, 400
    table["slices"] = SLICES - np.arange(CASES) % 4 if volumes else 1
    if study.head_classes:
        table["spacing_row_mm"] = table["spacing_col_mm"] = np.linspace(0.2, 0.4, CASES)
        table["hc_mm"] = np.linspace(120, 300, CASES)
    return table


def findings_of(study: params.Study) -> pd.DataFrame:
    found = [findings.Finding("warn", findings.Check("HC differs"), "case03", 'a "quoted" #name', "within $0.5 mm")]
    if is_of_volumes(study):
        about = ("note", lgg.REPLACED_BY_FLAIR)
        found += [findings.Finding(*about, f"case{index:02d}", "post-contrast", "its own") for index in (4, 5, 6)]
    return findings.to_table(found)


def write_verification(study: params.Study) -> None:
    at, table = folder(study, "01_data_verification"), manifest_of(study)
    seen = pd.DataFrame({"case": table["case"], "area_fraction": np.linspace(0, 0.3, CASES)})
    seen["border_gap"], seen["contrast"] = np.linspace(0, 0.3, CASES), np.linspace(-0.2, 0.2, CASES)
    folds = splits.assign_folds(table, study.fold_count, study.split_seed, study.validation_subjects)
    colours = {"case00": case_checks.Look({}, [], {(0, 0, 0): 90_000, (255, 0, 0): 17_345}, None)}
    files.write_csv(at / "cases.csv", table)
    files.write_csv(at / "findings.csv", findings_of(study))
    files.write_csv(at / "folds.csv", folds)
    made = {"overview": overview.facts(table, seen), "groups": overview.by_group(table, seen)}
    made |= {"colours": overview.colour_table(colours), "landmark-audit": audit_of(study, table)}
    save_all(at, made | {"identity": pd.DataFrame(columns=rehosted.IDENTITY_COLUMNS)})
    figures.save(figures.folds(table, folds), at / "figures" / "folds")
    figures.save(figures.sizes(table), at / "figures" / "sizes")


def audit_of(study: params.Study, table: pd.DataFrame) -> pd.DataFrame:
    """The audit of heads of 200 by 160 pixels; empty where no landmarks are learnt."""
    if study.landmarks == "none":
        return overview.audit_summary(pd.DataFrame())
    heads = head_points.axis_ends((135.0, 200.0), 200.0, 160.0, 12.0)
    marks = pd.DataFrame([heads.ravel()] * CASES, columns=head_points.POINT_COLUMNS)
    marks.insert(0, "case", table["case"])
    marks["px_to_mm"], marks["published_split"] = table["spacing_row_mm"], ""
    return overview.audit_summary(landmark_audit.audit(marks, table, {})[0])


def write_preprocessing(study: params.Study) -> None:
    """Of volumes the first two lose 40 and 5 voxels; of images none."""
    columns = ["case", "reference_voxels", "in_dropped_slices", "outside_crop"]
    rows = [(f"case{index:02d}", 1000, 40 * (index == 0), 5 * (index == 1)) for index in range(CASES)]
    lost = pd.DataFrame(rows if is_of_volumes(study) else [], columns=columns)
    at = folder(study, "02_preprocessing")
    files.write_csv(at / "lost.csv", lost)
    tables.save(lost[lost[columns[2:]].sum(axis=1) > 0], at / "tables" / "lost")


def write_model_and_run(study: params.Study) -> None:
    channels = 1 if len(study.classes) == 2 else len(study.classes)
    if study.learns_landmarks:
        channels = {"line": 2, "point": 4}[study.heatmap_per]
    arguments = {"in_channels": datasets.of(study).channels, "out_channels": channels, "base_channels": 16}
    model = {"model": "unet", "arguments": arguments, "parameters": 1942289, "starts_blank": study.landmarks != "none"}
    files.write_json(folder(study, "03_model/model.json"), model)
    run, history = folder(study, "04_training/fold0-seed0"), history_of(study)
    files.write_csv(run / "history.csv", history)
    about = {"best_epoch": 4, "best_value": 0.7, "epochs": 4, "stopped_early": False, "device": "cpu"}
    counts = {"train_cases": 12, "validation_cases": 4, "precision": "float32"}
    files.write_json(run / "run.json", about | counts)
    figures.save(figures.training_curves(history, study.classes), run / "figures" / "curves")
    exposure = pd.DataFrame({"class": study.classes[1:], "cases": 12, "cases_percent": 77.7})
    tables.save(exposure, run / "tables" / "exposure")


def history_of(study: params.Study) -> pd.DataFrame:
    """Four epochs that get better and better; the last has a validation loss of 0.3, of heatmaps an error of 6.25 %."""
    epochs = np.arange(1, 5)
    history = pd.DataFrame({"epoch": epochs, "train_loss": 1.0 / epochs, "validation_loss": 1.2 / epochs})
    if study.landmarks != "none":
        error = history["validation_error_percent"] = 25.0 / epochs
        return history.assign(train_selection=-20.0 / epochs, selection=-error, learning_rate=1e-3, best=True)
    history["train_selection"] = 1 - 0.5 / epochs
    for name in [f"validation_dice_{name}" for name in study.classes[1:]] + ["selection"]:
        history[name] = 0.8 - 0.4 / epochs
    history["learning_rate"], history["best"] = 1e-3, True
    return history


def tested(study: params.Study) -> list[dict]:
    """Case, subject, fold and seed of each case of fold 0."""
    folds = files.read_csv(folder(study, "01_data_verification/folds.csv"), splits.FOLD_COLUMNS)
    return folds[folds["fold"] == 0].assign(seed=0)[["case", "subject", "fold", "seed"]].to_dict("records")


def counted(study: params.Study) -> pd.DataFrame:
    """The long table of 05_evaluation; of volumes one shows nothing, in reference and prediction."""
    rows = []
    for place, key in enumerate(tested(study)):
        is_absent = is_of_volumes(study) and place == LAST_IS_ABSENT
        for name, stage in itertools.product(study.classes[1:], ("raw", "post")):
            overlap = (900 + place, 40 if stage == "post" else 60, 50 + 10 * place, 1000)
            found = metrics.Overlap(*((0, 0, 0, 1000) if is_absent else overlap))
            rows.append(key | {"class": name, "stage": stage} | vars(found) | {"dice": found.dice, "iou": found.iou})
    return pd.DataFrame(rows)


def write_regions(study: params.Study) -> None:
    at, long, manifest = folder(study, "05_evaluation"), counted(study), manifest_of(study)
    group = cases.group_of(manifest.set_index("case")["stratum"])
    pixels = [
        (0, 0, stage, of, to, 1000 * (1 + i) + 7 * j)
        for stage in ("raw", "post")
        for i, of in enumerate(study.classes)
        for j, to in enumerate(study.classes)
    ]
    confusion = pd.DataFrame(pixels, columns=["fold", "seed", "stage", "reference", "predicted", "pixels"])
    baseline = {"method": "Otsu's threshold, holes filled, ellipse", "class": study.classes[1], "n": 4}
    chosen = {"fold": 0, "seed": 0, "threshold": 0.45, "validation_score": 0.876, "validation_cases": 4}
    files.write_csv(at / "cases.csv", long)
    files.write_csv(at / "confusion.csv", confusion)
    files.write_csv(at / "chosen.csv", pd.DataFrame([chosen]))
    lost = files.read_csv(folder(study, "02_preprocessing/lost.csv"), [])
    files.write_csv(at / "precision.csv", rounded_of(study))
    made = {
        "precision": training_precision.summary(rounded_of(study)),
        "per_class": dice.per_class(long),
        "detection": dice.detection(long),
        "confusion": dice.confusion(confusion),
        "folds": dice.by_part(long, "fold"),
        "groups": dice.by_part(long.join(group, on="case"), "group"),
        "effect": dice.effect(long),
        "baselines": pd.DataFrame([baseline | {"dice": 0.505, "dice_low": 0.41, "dice_high": 0.6}]),
        "patients": patients.listed(long, manifest),
        "patient-dice": patients.summary(long, manifest),
        "end-slices": patients.end_slice_cost(long, lost),
    }
    save_all(at, made)
    figures.save(figures.dice_distribution(long, study.classes), at / "figures" / "dice-distribution")
    figures.save(figures.dice_bars(long, study.classes), at / "figures" / "dice-bars")
    figures.save(figures.confusion(made["confusion"], study.classes), at / "figures" / "confusion")
    write_pictures(at, ("worst", "median", "best", "probability"))


def rounded_of(study: params.Study, precision: str = "float32") -> pd.DataFrame:
    """What a precision changes: in float32 nothing; in another a Dice of 0.9876 at least, or shifts up to 0.37 mm."""
    by_line, is_other = study.landmarks != "none", precision != "float32"
    rows = []
    for place, key in enumerate(tested(study)):
        amount = 0.0 if not is_other else 1.0 if place == 0 else 0.5
        values = [0.74 * amount, 0.37 * amount] if by_line else [1 - 0.0124 * amount, 2.5 * amount, 0.046 * amount]
        for name in ("ofd", "bpd") if by_line else study.classes[1:]:
            rows.append([*key.values(), precision, name, *values])
    columns = training_precision.POINT_CHANGE_COLUMNS if by_line else training_precision.MASK_COLUMNS
    return pd.DataFrame(rows, columns=columns)


def write_pictures(at: Path, names: tuple[str, ...]) -> None:
    """Something to look at, whatever it shows."""
    for name in names:
        figures.save(figures.overfit([1.0, 0.5]), at / "figures" / name)


def errors_of(study: params.Study) -> pd.DataFrame:
    """Errors of 1 mm and more by the network, of which the first BPD is missed; of 9 and 30 mm by the guesses."""
    rows = []
    routes = ((landmarks.FOUND, 1.0), (landmarks.SHAPE, 9.0), (landmarks.BLANK, 30.0))
    for (place, key), (route, least), line in itertools.product(enumerate(tested(study)), routes, ("ofd", "bpd")):
        is_missed = (route, line, place) == (landmarks.FOUND, "bpd", 0)
        mm = np.nan if is_missed else least + place / 8 + (line == "bpd") / 4
        rows.append([*key.values(), route, line, mm * 4, mm, mm * 1.25])
    return pd.DataFrame(rows, columns=landmarks.ERROR_COLUMNS)


def write_points(study: params.Study) -> None:
    at, errors = folder(study, "05_evaluation"), errors_of(study)
    files.write_csv(at / "cases.csv", errors)
    files.write_csv(at / "precision.csv", rounded_of(study))
    losses = landmarks.heatmap_losses(study.folds, study.seeds, folder(study, "04_training"))
    made = {"precision": training_precision.summary(rounded_of(study)), "heatmap_loss": losses}
    save_all(at, made | {"points": landmark_errors.landmarks(errors)})
    figures.save(figures.landmark_errors(errors), at / "figures" / "error-distribution")
    write_pictures(at, ("worst", "median", "best", "heatmaps"))


def measured(study: params.Study) -> pd.DataFrame:
    """Heads by their route, 0.5 mm too long and more, and guesses; none where the study names no head."""
    route = "ellipse" if study.landmarks == "none" else "landmark"
    routes = [(route, 0.5), ("baseline", 20.0)]
    routes += [] if study.landmarks == "none" else [("mean shape", 7.0), ("blank map", -48.0)]
    sizes = (("bpd", 50.0), ("ofd", 65.0), ("hc", 180.0)) if study.head_classes else ()
    rows = []
    for (place, key), (quantity, size), (name, error) in itertools.product(enumerate(tested(study)), sizes, routes):
        values = {"predicted_mm": size + error + place * (name == route), "reference_mm": size, "flags": ""}
        rows.append(key | {"stage": "post", "route": name, "quantity": quantity} | values)
    return pd.DataFrame(rows, columns=biometry.COLUMNS)


def shapes_of(study: params.Study) -> pd.DataFrame:
    """Structures of images; without pixel sizes none is measured."""
    if is_of_volumes(study) or study.landmarks != "none":
        return pd.DataFrame(columns=biometry.SHAPE_COLUMNS)
    rows = []
    for (place, key), name in itertools.product(enumerate(tested(study)), study.classes[1:]):
        for source, more in (("reference", 0.0), ("predicted", 1.25 + place)):
            size = 10.0 + more if study.head_classes else np.nan
            shape = dict.fromkeys(biometry.SHAPE_COLUMNS[6:], size) | {"parts": 1}
            rows.append(key | {"class": name, "source": source} | shape)
    return pd.DataFrame(rows, columns=biometry.SHAPE_COLUMNS)


def volumes_of(study: params.Study) -> pd.DataFrame:
    """Voxels of each volume as 05_evaluation counted them; their size is not known."""
    if not is_of_volumes(study):
        return pd.DataFrame(columns=biometry.VOLUME_COLUMNS)
    long = files.read_csv(folder(study, "05_evaluation/cases.csv"), [])
    sizes = {"reference_voxels": long["tp"] + long["fn"], "predicted_voxels": long["tp"] + long["fp"]}
    return long.assign(**sizes, reference_ml=np.nan, predicted_ml=np.nan)[biometry.VOLUME_COLUMNS]


def write_biometry(study: params.Study) -> None:
    at, long, shapes, volumes = folder(study, "06_biometry"), measured(study), shapes_of(study), volumes_of(study)
    files.write_csv(at / "measurements.csv", long)
    files.write_csv(at / "shapes.csv", shapes)
    files.write_csv(at / "volumes.csv", volumes)
    made = {"agreement": biometry_errors.agreement(long), "shapes": biometry_errors.shapes(shapes)}
    save_all(at, made | {"flagged": biometry.flagged(long), "volumes": biometry_errors.volumes(volumes)})
    figures.save(figures.agreement_scatter(long), at / "figures" / "scatter")
    figures.save(figures.bland_altman(long), at / "figures" / "bland-altman")


def write_comparison(study: params.Study) -> None:
    """Beside a study of ellipses that is off by 3 mm everywhere, by references that lie 1 mm apart."""
    at, cases_of = folder(study, "07_comparison"), frozenset(key["case"] for key in tested(study))
    here = comparison.Measured(study.study, cases_of, measured(study), None)
    there = here.measurements[here.measurements["route"] == here.routes[0]].copy()
    there["reference_mm"], there["route"] = there["reference_mm"] + 1.0, "ellipse"
    there["predicted_mm"] = there["reference_mm"] + 3.0
    long = comparison.compare_all(here, [comparison.Measured(OTHER, cases_of, there, None)])
    overlaps = pd.DataFrame(columns=comparison.OVERLAP_COLUMNS)
    files.write_csv(at / "comparison.csv", long)
    files.write_csv(at / "overlaps.csv", overlaps)
    made = {"comparison": paired.comparison(long), "references": paired.references(long)}
    save_all(at, made | {"overlaps": paired.overlap_comparison(overlaps)})
    figures.save(figures.paired_differences(long), at / "figures" / "differences")
    for name in ("05_evaluation", "06_biometry"):
        files.write_json(steps.Step(name).record_file(OTHER), {"outputs": {}})


def write_records(study: params.Study) -> None:
    for step in steps.study_steps(study)[:-1]:
        record = steps.snapshot(step, study) | {
            "step": step.label,
            "own": steps.own_values(step, study),
            "outputs": steps.output_hashes(step.folder(study.study)),
            "needs": ["timing.json"],
            "checks": [{"claim": f"claim of {step.name}", "holds": True}],
            "commit": "0123456789ab",
            "versions": VERSIONS,
            "device": "cpu (x86_64, 2 threads)",
        }
        files.write_json(step.record_file(study.study), record)
        timing = {"date": DATE, "seconds": 70.4, "peak_bytes": 2**30}
        files.write_json(step.folder(study.study) / "timing.json", timing)


def text_of(pdf: Path) -> str:
    return re.sub(r"\s+", " ", " ".join(page.extract_text() for page in PdfReader(pdf).pages))


def text_with(built: Path, content: dict, pages: bool = False) -> str:
    """The text of a report that was built, typeset again from another content.

    It stands on one endless page, because a sentence that a page ends in the middle could not be found.
    """
    source, pdf = built.parent / "report" / "report.typ", built.with_name("other.pdf")
    files.write_json(source.with_name("content.json"), content)
    style = (build.TEMPLATE / "style.typ").read_text(encoding="utf-8")
    endless = style.replace('paper: "a4"', "width: 210mm, height: auto")
    assert endless != style
    files.write_text(source.with_name("style.typ"), style if pages else endless)
    pdf.write_bytes(build.typeset(source, DATE))
    return text_of(pdf)


def cells_of(study: params.Study, name: str) -> list[str]:
    """Every cell of a table as it is printed, that says more than a small number does."""
    columns = tables.printed_cells(read_table(study, name))
    cells = [re.sub(r"\s+", " ", cell) for column in columns.values() for cell in column]
    return [cell for cell in cells if len(cell) > 3]


def unreferred(text: str) -> list[str]:
    """Figures and tables of a report that its text never refers to; at least one of each must be there."""
    found = []
    for kind in ("Figure", "Table"):
        numbers = {int(number) for number in re.findall(rf"{kind} (\d+)\.", text)}  # of the captions
        assert numbers
        found += [f"{kind} {n}" for n in sorted(numbers) if not re.search(rf"{kind} {n}( (?!\.)\w|\))", text)]
    return found
