"""Raw data folders that a study reads: which are missing, and how to obtain them."""

from pathlib import Path

from lib.study import files, params, steps

OWN = "own_"  # prefix of custom data sets
HOWTO = "docs/howto-own-data.md"


def fault(folder: Path, name: str, option: str, study: str = "<name>") -> str:
    """Why a raw folder cannot be read and what to do; "" if it exists. `option` is that of `make`: DATA, LANDMARKS."""
    if folder.is_dir():
        return ""
    found = f"a link to {folder.readlink()}, which is not available" if folder.is_symlink() else "no such folder"
    relink = "; remove the link first if the data have moved" if folder.is_symlink() else ""
    link = f"link your copy with 'make study STUDY={study} {option}=<folder>'"
    more = f" ({HOWTO})" if name.startswith(OWN) else f", or run 'python -m lib download {name}'"
    return f"data/raw/{name}: {found}; {link}{more}{relink}"


def missing(study: params.Study) -> list[str]:
    """One message per raw folder of a study that is missing; a phantom's are generated when it runs."""
    if study.dataset.startswith(steps.MADE_HERE):
        return []
    wanted = [(study.dataset, "DATA"), *([("landmarks", "LANDMARKS")] if study.learns_landmarks else [])]
    faults = [fault(files.raw_folder(name), name, option, study.study) for name, option in wanted]
    return [text for text in faults if text]
