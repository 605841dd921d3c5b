"""Files of the project that the report takes beside a study's results: the author's texts, and CITATION.cff."""

from pathlib import Path

from lib.study import files, params, staleness, steps, system_files


def texts_root() -> Path:
    """Folder with one folder of texts per study."""
    return files.ROOT / "texts"


def citation_file() -> Path:
    """How the project is to be cited, in the Citation File Format; it may be missing."""
    return files.ROOT / "CITATION.cff"


def folder_of(study: str) -> Path:
    """Folder of the texts of a study; it may be missing."""
    return texts_root() / study


def hashes(study: str) -> dict[str, str]:
    """SHA-256 of the files that the report takes from the project beside results: the author's texts, CITATION.cff."""
    written = {in_project(path): files.sha256(path) for path in system_files.walk(folder_of(study))[0]}
    citation = citation_file()
    return written | ({citation.name: files.sha256(citation)} if citation.is_file() else {})


def in_project(path: Path) -> str:
    """Path of a text relative to the project."""
    return (Path("texts") / path.relative_to(texts_root())).as_posix()


def stale_reasons(step: steps.Step, study: params.Study) -> list[str]:
    """Reasons why a step is stale (see `lib.study.staleness`), for the report with those that lie in its texts."""
    reasons = staleness.stale_reasons(step, study)
    record = steps.read_record(step, study) if step.name == "report" else None
    if record is None:
        return reasons
    before, now = record.get("texts", {}), hashes(study.study)
    changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    said = {name: "changed" if name in before and name in now else "added or removed" for name in changed}
    is_draft = ["it was typeset as a draft"] * bool(record.get("draft"))
    return reasons + [f"{name} was {what}" for name, what in said.items()] + is_draft
