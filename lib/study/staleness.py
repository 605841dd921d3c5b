"""Why a step is stale: compares its record with the current keys, code, inputs and files."""

from collections.abc import Iterator
from pathlib import Path

from lib.study import array_files, environment, files, params, steps
from lib.study.steps import Step


def stale_reasons(step: Step, study: params.Study) -> list[str]:
    """Reasons why a step is stale; empty if it is up to date."""
    record = steps.read_record(step, study)
    if record is None:
        exists = step.record_file(study.study).is_file()
        return ["the record cannot be read" if exists else "not completed yet"]
    return [
        *_differences("key", record["own"], steps.own_values(step, study)),
        *_differences("code", record["code"], steps.code_hashes(step.name, study), show_values=False),
        *_input_reasons(record["inputs"], step, study),
        *_data_reasons(record.get("data"), step, study),
        *_output_reasons(record["outputs"], step, study),
        *_array_reasons(step, study),
        *_need_reasons(record["needs"], step.folder(study.study)),
    ]


def stale_inputs(inputs: list[Step], study: params.Study) -> list[str]:
    """A line per stale step that a manual run reads; the workflow has brought its inputs up to date."""
    own = [] if environment.in_workflow() else [each for each in inputs if not each.root]
    reasons = {each.label: stale_reasons(each, study) for each in own}
    return [f"{label} is stale ({'; '.join(why)}): results of before are read" for label, why in reasons.items() if why]


def _differences(kind: str, before: dict, now: dict, show_values: bool = True) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            is_hash = name == "study_file"  # of the file's text, for the report
            shown = show_values and not is_hash
            yield f"{kind} {name}" + (f": {before.get(name)!r} -> {now.get(name)!r}" if shown else " changed")


def _input_reasons(before: dict[str, str], step: Step, study: params.Study) -> Iterator[str]:
    for source in steps.step_inputs(step, study):
        record = steps.read_record(source, study)
        if record is None:
            yield f"input {source.label} must run"
        elif before.get(source.label) != files.digest(record["outputs"]):
            yield f"input {source.label} has changed"
    if step.name == "07_comparison":
        now = steps.compared_digests(study)
        yield from (f"input {label} has changed" for label in now if before.get(label) != now[label])


def _data_reasons(before: dict[str, str] | None, step: Step, study: params.Study) -> Iterator[str]:
    """Raw folders changed since verification; folders added or removed since then do not make it stale."""
    if step.name == "01_data_verification":
        before = before if isinstance(before, dict) else {}
        for name, now in steps.data_digests(study.dataset).items():
            if name in {*before, study.dataset} and before.get(name) != now:
                yield f"files in data/raw/{name} have changed"


def unsearched(study: params.Study) -> list[str]:
    """Data sets added to data/raw after verification, which has not searched them for this study's images."""
    record = steps.read_record(Step("01_data_verification"), study) or {}
    before = record.get("data")
    return sorted(steps.data_digests(study.dataset).keys() - before.keys()) if isinstance(before, dict) else []


def _array_reasons(step: Step, study: params.Study) -> Iterator[str]:
    """Problems with the preprocessed arrays, which are stored outside the step's folder and may be deleted."""
    description = step.folder(study.study) / "dataset.json"
    if step.name == "02_preprocessing" and description.is_file():
        name = files.read_json(description).get("fingerprint", "")
        problem = array_files.fault(name)
        yield from [f"data/processed/{name}: {problem}"] if problem else []


def _need_reasons(needs: list[str], folder: Path) -> Iterator[str]:
    for name in needs:
        if not (folder / name).is_file():
            yield f"{name} is missing"
        elif not name.endswith(".csv") and not _ends_whole(folder / name):
            yield f"{name} is incomplete"


def _ends_whole(path: Path) -> bool:
    """Whether a JSON file ends with a brace; papermill does not write notebooks atomically."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16))
        return file.read().rstrip().endswith(b"}")


def _output_reasons(before: dict[str, str], step: Step, study: params.Study) -> Iterator[str]:
    now = steps.step_outputs(step, step.folder(study.study))
    if changed := [name for name, value in before.items() if now.get(name) != value]:
        listed = ", ".join(changed[:3]) + (" …" if len(changed) > 3 else "")
        yield f"output files changed or missing ({len(changed)}): {listed}"
