"""A study's index.html: one page with links to its results, which opens without a server or a network."""

from html import escape
from pathlib import PurePosixPath
from urllib.parse import quote

from lib.report import tables
from lib.study import files, params, steps

NAME, GALLERY = "index.html", "gallery.html"
NOT_LISTED = {  # parts of paths: masks, pictures that gallery.html holds, and weights of 04, which 05 completes
    "predictions",
    "previews",
    "model.safetensors",
}
STYLE = """body { font: 15px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
h2 { border-top: 1px solid #ccc; padding-top: 0.7em }
img { height: 9em; margin: 0.3em; border: 1px solid #ccc; vertical-align: top }
li { margin: 0.2em 0 } a { margin-right: 0.6em }"""
KINDS = ("Notebook", "Figures", "Tables", "Weights", "All rows")


def result_files(study: params.Study) -> list[str]:
    """Paths of the files that the steps of a study wrote, relative to its folder, by step, without NOT_LISTED."""
    names = []
    for step in steps.study_steps(study):
        record = steps.read_record(step, study)
        if record is not None:  # that of the report is written after its index
            written = {*record["outputs"], *record["needs"], "record.json"}
            written |= {steps.EXECUTED} if (step.folder(study.study) / steps.EXECUTED).is_file() else set()
            names += [PurePosixPath(step.label, name) for name in sorted(written) if not name.startswith("../")]
    return [str(name) for name in names if NOT_LISTED.isdisjoint(name.parts)]


def page(study: params.Study, first: list[str], names: list[str]) -> str:
    """The page as HTML; `first` and `names` are paths relative to it: the report and other files, results of steps.

    Tables without rows, which a kind of study does not fill, have no link.
    """
    root = files.study_folder(study.study)
    names = [name for name in names if not name.endswith(".csv") or tables.has_rows(root / name)]
    sections = [section(step.label, names) for step in steps.study_steps(study) if step.name != "report"]
    about = f"Study {study.study}" + (f", by {study.author}" if study.author else "")
    return "\n".join(
        [
            f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(study.title)}</title>',
            f"<style>\n{STYLE}\n</style>\n<h1>{escape(study.title)}</h1>\n<p>{escape(about)}. For research only.</p>",
            *(["<ul>", *(f"<li>{link(name, name)}</li>" for name in first), "</ul>"]),
            *filter(None, sections),
            "</html>\n",
        ]
    )


def section(label: str, names: list[str]) -> str:
    """The links to the files of one step by kind; empty if there are none."""
    of_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name in names:
        if name.startswith(f"{label}/") and (kind := kind_of(PurePosixPath(name))):
            of_kind[kind].append(picture(name) if kind == "Figures" else link(name, PurePosixPath(name).name))
    rows = [f"<li>{kind}: {' '.join(links)}</li>" for kind, links in of_kind.items() if links]
    return "\n".join([f"<h2>{escape(label)}</h2>\n<ul>", *rows, "</ul>"]) if rows else ""


def kind_of(path: PurePosixPath) -> str | None:
    """What a result file is, one of KINDS; None for files that only programs read."""
    if path.stem == "notebook":
        return "Notebook"
    if path.parent.name == "figures":
        return None if path.suffix == ".pdf" else "Figures"  # the .pdf is the .svg again, for LaTeX
    if path.suffix == ".csv":
        return "Tables" if path.parent.name == "tables" else "All rows"
    return "Weights" if path.suffix == ".safetensors" else None


def link(name: str, text: str) -> str:
    """A link to a file by its path."""
    return f'<a href="{escape(quote(name))}">{escape(text)}</a>'


def picture(name: str) -> str:
    """A figure as a small image that links to the file."""
    stem = PurePosixPath(name).stem
    return f'<a href="{escape(quote(name))}"><img src="{escape(quote(name))}" alt="{escape(stem)}" loading="lazy"></a>'
