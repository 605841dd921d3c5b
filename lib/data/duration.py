"""How long a study takes: as its steps recorded it, or a training as the measured speed predicts it."""

from collections.abc import Mapping
from pathlib import Path

from lib.data import splits
from lib.study import files, params, progress, steps

SPEED = "03_model/timing.csv"  # images per second


def of_study(study: params.Study) -> str | None:
    """Time of all steps of a study when they last ran, device, epochs and runs; None if one has not finished."""
    finished = [step for step in steps.study_steps(study) if step.name != "report"]
    timings = [step.folder(study.study) / "timing.json" for step in finished]
    records = [steps.read_record(step, study) for step in finished]
    if not all(records) or not all(path.is_file() for path in timings):
        return None
    time = progress.duration(sum(files.read_json(path)["seconds"] for path in timings))
    runs = steps.training_steps(study)
    device = files.read_json(runs[0].record_file(study.study))["device"]
    return f"{time} on {device}, for {amount(study)}"


def trained(folder: Path) -> float:
    """Seconds of all epochs of a training, also of those before it was resumed or loaded; 0 if the table is lost."""
    path = folder / "timing.csv"
    return float(files.read_csv(path, ["seconds"])["seconds"].sum()) if path.is_file() else 0.0


def amount(study: params.Study) -> str:
    """Number of epochs and of training runs, in words."""
    runs = len(steps.training_steps(study))
    return f"{study.epochs} epochs in {runs} training run{'s' * (runs > 1)}"


def of_trainings(study: params.Study) -> dict[steps.Step, str]:
    """Time of each training run, in words, at the speed that 03_model measured; none before it has run."""
    root = files.study_folder(study.study)
    if not (root / SPEED).is_file():
        return {}
    speed = files.read_csv(root / SPEED, []).iloc[0]
    folds = files.read_csv(root / "01_data_verification/folds.csv", splits.FOLD_COLUMNS)
    slices = files.read_csv(root / "01_data_verification/cases.csv", []).set_index("case")["slices"]
    images = slices - 2 * (study.end_slices_dropped or 0)
    times = {}
    for step in steps.training_steps(study):
        parts = splits.parts(folds, step.run[0])  # type: ignore[index]
        train, validation = (int(images.loc[parts[name]].sum()) for name in ("train", "validation"))
        times[step] = progress.duration(study.epochs * seconds_per_epoch(train, validation, speed))
    return times


def seconds_per_epoch(train: int, validation: int, speed: Mapping[str, float]) -> float:
    """Seconds to train on and to predict that many images, at the speed of a row of SPEED."""
    return train / speed["training_images_per_second"] + validation / speed["prediction_images_per_second"]
