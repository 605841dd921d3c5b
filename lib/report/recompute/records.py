"""Files of a study that are not those its records name: changed, missing, added or stale."""

from lib.report.recompute.results import Results
from lib.study import files, own_files, steps, system_files

TEMPLATE = files.ROOT / "reports" / "template"


def differing(results: Results) -> tuple[list[str], list[str]]:
    """Faults of the files of every step, and notes on what changes no printed number: later code, deleted arrays."""
    faults, notes = [], []
    for step in steps.study_steps(results.study):
        record = steps.read_record(step, results.study)
        if record is None:
            faults.append(f"{step.label}/record.json: missing or unreadable; run {step.label} again")
            continue
        faults += _changed(step, record["outputs"], results)
        for reason in own_files.stale_reasons(step, results.study):
            if reason.startswith(("code ", "data/processed/", "files in data/raw/")):
                notes.append(f"{step.label} was made before a change: {reason}")
            elif not reason.startswith("output files "):  # each is named above
                faults.append(f"{step.label} is stale: {reason}")
    return faults + _changed_template(results), notes


def _changed(step: steps.Step, before: dict[str, str], results: Results) -> list[str]:
    """Output files of a step that differ from their hashes in its record."""
    now, faults = steps.step_outputs(step, step.folder(results.study.study)), []
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            what = "has changed since" if name in before and name in now else "was added after" if name in now else ""
            path = f"{step.label}/{name}".replace("report/../", "")
            faults.append(f"{path}: {what} {step.label} was recorded" if what else f"{path}: missing")
    return faults


def _changed_template(results: Results) -> list[str]:
    """Files of the report's template that are not the project's; a sentence typed into a copy is in no table."""
    copies = results.folder / "report"
    return [
        f"report/{path.name}: differs from reports/template/{path.name}; make the report again"
        for path in system_files.visible(TEMPLATE)
        if path.stem != "gallery"  # it is not copied, but part of gallery.html
        and not ((copies / path.name).is_file() and (copies / path.name).read_bytes() == path.read_bytes())
    ]
