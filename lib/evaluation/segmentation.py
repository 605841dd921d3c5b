"""Evaluation of predicted masks: every test case once, at native size, by a network not trained on its subject."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib import metrics, models
from lib.data import cases
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.evaluation import (
    biometry,
    boundaries,
    intervals,
    postprocessing,
    previews,
    quality,
    training_precision,
    validation,
)
from lib.imaging import mask_files
from lib.models import devices, inference, trained_model
from lib.models.trained_model import Model
from lib.study import files, parallel, params
from lib.study.params import EvaluationParams
from lib.study.progress import Live, follow

COLUMNS = ["case", "subject", "fold", "seed", "class", "stage", "tp", "fp", "fn", "tn", "dice", "iou"]
COLUMNS += ["size_error_percent", *boundaries.COLUMNS]
CONFUSION_COLUMNS = ["fold", "seed", "stage", "reference", "predicted", "pixels"]


@dataclass(frozen=True)
class Evaluation:
    """Results of one or more runs."""

    table: pd.DataFrame  # one row per case, class and stage (COLUMNS)
    confusion: pd.DataFrame  # pixels by reference and predicted class, per run and stage (CONFUSION_COLUMNS)
    choices: pd.DataFrame  # threshold chosen on the validation cases, one row per run
    precision: pd.DataFrame  # effect of the precision of training (training_precision.MASK_COLUMNS)
    validation: pd.DataFrame  # measured heads of the validation cases at the chosen threshold (validation.COLUMNS)
    indicators: pd.DataFrame  # of the heads of validation and test cases (quality.table)
    limits: pd.DataFrame  # of the flags of heads, chosen on the validation cases (quality.LIMIT_COLUMNS)


@dataclass(frozen=True)
class Protocol:
    """Evaluation settings shared by all runs."""

    threshold_candidates: list[float]  # foreground probabilities to choose from; [] with over two classes
    steps: list[dict[str, Any]]  # post-processing, from `postprocessing.describe`
    flip_average: bool  # whether to average the prediction with that of the mirrored image
    device: torch.device
    nsd_tolerances: dict[str, float | None]  # by unit, "mm" and "px"
    measuring: dict[str, Any] = field(default_factory=dict)  # keys of 06 for the model file, from `params.measuring`


@dataclass(frozen=True)
class Predicted:
    """A case with its reference and the probabilities predicted for it."""

    row: dict[str, Any]  # manifest row
    image: np.ndarray  # (H, W) or (D, H, W, channels) uint8
    reference: np.ndarray  # (H, W) or (D, H, W) uint8 class indices
    probability: np.ndarray  # (C, *reference.shape) float32, computed in float32
    as_trained: np.ndarray  # computed in the precision of training; the same array if that is float32 or not required


def evaluate_all(
    config: EvaluationParams, test_set: EvaluationSet, trainings: Path, live: Live | None = None
) -> Evaluation:
    """Evaluates every run of a study, by fold and seed; `trainings` is the folder of 04_training."""
    steps = postprocessing.describe(config.postprocessing, config.model_dump())
    device = devices.choose(config.device)
    tolerances = {"mm": config.nsd_tolerance_mm, "px": config.nsd_tolerance_px}
    settings = (config.threshold_candidates or [], steps, config.flip_average, device)
    protocol = Protocol(*settings, tolerances, params.measuring(config))
    runs = [
        evaluate_run(protocol, test_set, trainings / files.run_name(fold, seed) / "model.safetensors", fold, seed, live)
        for fold in config.folds
        for seed in config.seeds
    ]
    kinds = [each.name for each in fields(Evaluation)]
    return Evaluation(*(pd.concat([getattr(run, kind) for run in runs], ignore_index=True) for kind in kinds))


def evaluate_run(
    protocol: Protocol, test_set: EvaluationSet, weights: Path, fold: int, seed: int, live: Live | None = None
) -> Evaluation:
    """Evaluates one trained network on its test fold in float32; writes masks, previews and the completed model."""
    model = trained_model.load(weights, protocol.flip_average, protocol.device)
    parts, run = test_set.parts(fold), {"fold": fold, "seed": seed}
    steps, classes, tolerances = protocol.steps, test_set.dataset.classes, protocol.nsd_tolerances
    head_classes = biometry.class_indices(test_set.dataset, protocol.measuring.get("head_classes", []))
    usual = quality.usual_greys(test_set.arrays, parts["train"]) if head_classes else []
    choice, measured, indicators = validate(test_set, model, parts["validation"], protocol, usual, live)
    heads = pd.DataFrame([run | row for row in measured], columns=validation.COLUMNS)
    limits = quality.limits_of(heads, indicators)
    use = {"threshold": choice["threshold"], "flip_average": protocol.flip_average, "postprocessing": steps}
    use |= protocol.measuring | test_set.dataset.described | run
    if head_classes:
        use |= {"intervals": intervals.constants(heads), "flags": {"limits": limits, "usual_greys": usual}}
    models.complete(weights, test_set.folder / "models" / f"{files.run_name(fold, seed)}.safetensors", use)

    def stages_of(case: Predicted, probability: np.ndarray) -> dict[str, np.ndarray]:
        return predicted_stages(probability, choice["threshold"], steps, pixel_mm2(case.row))

    def indicators_of(case: Predicted, stages: dict[str, np.ndarray]) -> dict[str, Any]:
        of_head = quality.of_masks(stages, case.probability, head_classes, cases.spacing_mm(case.row))
        of_head |= quality.grey_distance(case.image, model.preparation, usual)
        return {"role": "test", "route": "ellipse"} | of_head

    def measure(row: dict[str, Any]) -> tuple[dict[str, np.ndarray], *tuple[list[dict[str, Any]], ...]]:
        case = predict_case(test_set, model, row, as_trained=True)
        key = {"case": row["case"], "subject": row["subject"]} | run
        stages = stages_of(case, case.probability)
        for stage, mask in stages.items():
            mask_files.write(test_set.predicted(stage, fold, seed, key["case"]), mask, classes)
        previews.write(test_set, fold, seed, case.row, case.image, (case.reference, stages["post"], case.probability))
        as_trained = stages if case.as_trained is case.probability else stages_of(case, case.as_trained)
        pair = (stages["post"], case.probability), (as_trained["post"], case.as_trained)
        precision = {"training_precision": model.about["training_precision"]}
        changes = [key | precision | change for change in training_precision.compare_masks(*pair, classes)]
        spacing_mm, measured = cases.sample_mm(case.row, test_set.dataset.volumes), {}
        for stage, mask in stages.items():
            equal = next((other for other in measured if np.array_equal(mask, stages[other])), None)
            known = measured.get(equal)  # post-processing changes few masks; an equal one has the same distances
            measured[stage] = known or describe_mask(case.reference, mask, classes, spacing_mm, tolerances)
        counts = {stage: confusion for stage, (confusion, _) in measured.items()}
        rows = [
            key | {"class": name, "stage": stage} | values
            for stage, (_, by_class) in measured.items()
            for name, values in by_class.items()
        ]
        return counts, rows, changes, [key | indicators_of(case, stages)] if head_classes else []

    results = trained_model.in_threads(measure, test_set.rows(parts["test"]))
    counts, rows, changes, tested = zip(
        *follow(results, len(parts["test"]), live, f"fold {fold}, seed {seed}: test case")
    )
    return Evaluation(
        pd.DataFrame(chain(*rows), columns=COLUMNS),
        confusion_rows({stage: sum(each[stage] for each in counts) for stage in counts[0]}, classes, fold, seed),
        pd.DataFrame([run | choice]),
        pd.DataFrame(chain(*changes), columns=training_precision.MASK_COLUMNS),
        heads,
        quality.table([*(run | row for row in indicators), *chain(*tested)]),
        pd.DataFrame([run | {"flag": n, "limit": v} for n, v in limits.items()], columns=quality.LIMIT_COLUMNS),
    )


def describe_mask(
    reference: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence[str],
    spacing_mm: Sequence[float] | None,
    tolerances: Mapping[str, float | None],
) -> tuple[np.ndarray, dict[str, dict[str, Any]]]:
    """Confusion matrix of a mask, and by foreground class the values of `class_rows` and `boundaries.describe`."""
    counts = metrics.confusion(reference, predicted, len(classes))
    rows = class_rows(counts, classes)
    for index, name in enumerate(classes[1:], start=1):
        rows[name] |= boundaries.describe(reference == index, predicted == index, spacing_mm, tolerances)
    return counts, rows


def predict_case(test_set: EvaluationSet, model: Model, row: dict[str, Any], as_trained: bool = False) -> Predicted:
    """A case of the manifest with its probabilities at native size, on request also in the precision of training."""
    image, reference = test_set.read_case(row)
    other = trained_model.as_trained(model) if as_trained else model
    try:
        own = trained_model.probability(model, image)
        rounded = own if other.precision == model.precision else trained_model.probability(other, image)
    except ValueError as error:
        raise ValueError(f"case {row['case']}: {error}") from error
    return Predicted(row, image, reference, own, rounded)


def predicted_stages(
    probability: np.ndarray, threshold: float | None, steps: list[dict[str, Any]], area_mm2: float | None
) -> dict[str, np.ndarray]:
    """Masks of one case, uint8, from its probability (C, H, W) or (C, D, H, W): raw and post, or only post."""
    raw = inference.decide(probability, threshold)
    return {"raw": raw, "post": postprocessing.apply(raw, probability, area_mm2, steps)} if steps else {"post": raw}


def pixel_mm2(row: Mapping[str, Any]) -> float | None:
    """Area of a pixel in a case of the manifest; None if unknown."""
    spacing_mm = cases.spacing_mm(row)
    return spacing_mm[0] * spacing_mm[1] if spacing_mm else None


def class_rows(counts: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Counts, Dice, IoU and size error of each foreground class, from the confusion matrix of one case."""
    overlaps = {name: metrics.overlap_of(counts, index) for index, name in enumerate(classes) if index > 0}
    derived = ("dice", "iou", "size_error_percent")
    return {name: vars(each) | {value: getattr(each, value) for value in derived} for name, each in overlaps.items()}


def confusion_rows(pooled: dict[str, np.ndarray], classes: Sequence[str], fold: int, seed: int) -> pd.DataFrame:
    """Summed confusion matrices of a run, by stage, as a long table (CONFUSION_COLUMNS)."""
    keys = product([fold], [seed], pooled, classes, classes)
    pixels = np.concatenate([counts.ravel() for counts in pooled.values()])
    return pd.DataFrame([(*key, int(count)) for key, count in zip(keys, pixels)], columns=CONFUSION_COLUMNS)


def validate(
    test_set: EvaluationSet,
    model: Model,
    names: list[str],
    protocol: Protocol,
    usual: Sequence[float],
    live: Live | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """The threshold chosen on validation cases, the heads of these cases measured with it, and their indicators.

    Heads are rows of `validation.measured`; `usual` are the grey values of the training images (`quality.usual_greys`).

    Chosen is the foreground probability with the best mean `score` at native size after post-processing; of equally
    good ones, the one nearest to 0.5. Without candidates (over two classes, where the most probable class is
    predicted), threshold and validation_score are None. Each case is predicted once, whatever the candidates, and its
    head is measured at the chosen one alone.
    """
    candidates = protocol.threshold_candidates
    heads = biometry.class_indices(test_set.dataset, protocol.measuring.get("head_classes", []))
    choice = {"threshold": None, "validation_score": None, "validation_cases": len(names)}
    if not candidates and not heads:
        return choice, [], []

    def judge(row: dict[str, Any]) -> validation.Candidates:
        case = predict_case(test_set, model, row)
        reference_mm, scores, packed = validation.reference_mm(case.row, case.reference, heads), [], []
        for level in candidates or [None]:
            stages = predicted_stages(case.probability, level, protocol.steps, pixel_mm2(case.row))
            scores.append(score(case.reference, stages["post"]))
            packed += [validation.packed_heads(stages, heads)] if reference_mm else []
        bits = quality.entropy(case.probability, heads) if reference_mm else float("nan")
        grey = quality.grey_distance(case.image, model.preparation, usual) if heads else {}
        return validation.Candidates(case.row, scores, reference_mm, packed, bits, grey)

    judged = trained_model.in_threads(judge, test_set.rows(names))
    kept, best = list(follow(judged, len(names), live, "validation case")), 0
    if candidates:
        means = np.mean([case.scores for case in kept], axis=0)
        best = max(range(len(means)), key=lambda i: (means[i], -abs(candidates[i] - 0.5)))
        choice |= {"threshold": candidates[best], "validation_score": float(means[best])}
    known = [case for case in kept if case.reference_mm]
    results = parallel.in_parallel(lambda case: validation.measured(case, best, protocol.measuring), known)
    return choice, [row for rows, _ in results for row in rows], [indicators for _, indicators in results]


def score(reference: np.ndarray, predicted: np.ndarray) -> float:
    """Foreground Dice; for an empty reference 1 if nothing is predicted, else 0, so that false positives count."""
    dice = metrics.overlap(reference > 0, predicted > 0, 1).dice
    return 1.0 if np.isnan(dice) else dice


def probability_map(
    test_set: EvaluationSet, trainings: Path, row: pd.Series, flip_average: bool, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W) and foreground probability (H, W) of a row; in volumes the slice with most of the reference."""
    weights = trainings / files.run_name(row["fold"], row["seed"]) / "model.safetensors"
    model = trained_model.load(weights, flip_average, devices.choose(device))
    case = predict_case(test_set, model, test_set.rows([row["case"]])[0])
    foreground = 1 - case.probability[0]
    loaded = samples.load(test_set.dataset, test_set.cases, [row["case"]])
    return loaded.images[0], foreground[loaded.slices[0]] if foreground.ndim == 3 else foreground


def counts_add_up(table: pd.DataFrame, manifest: pd.DataFrame) -> bool:
    """Whether TP + FP + FN + TN of every row is the number of pixels (voxels) of the native image (volume)."""
    pixels = manifest.set_index("case").eval("slices * height * width")
    return bool((table[["tp", "fp", "fn", "tn"]].sum(axis=1).to_numpy() == pixels.loc[table["case"]].to_numpy()).all())


def dice_and_iou_agree(table: pd.DataFrame) -> bool:
    """Whether Dice = 2 IoU / (1 + IoU) in every row with a Dice."""
    rows = table[table["dice"].notna()]
    return bool(np.allclose(rows["dice"], 2 * rows["iou"] / (1 + rows["iou"]), rtol=0, atol=1e-12))
