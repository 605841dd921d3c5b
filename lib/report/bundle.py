"""A finished study as one zip file for a supervisor: report, notebooks, tables, figures, weights, study file."""

import io
import json
import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath

from lib import datasets
from lib.data.dataset import Dataset
from lib.report import index_page
from lib.study import files, locks, own_files, params, steps

# Page of a notebook without the scripts that nbconvert would load from the web (require.js, MathJax, Mermaid); the
# policy forbids any request, so that the page looks the same offline. Formulas would stay as TeX; there are none.
TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'">
{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}"""
DENSE = (".safetensors", ".png", ".pdf")  # hardly smaller when packed
FIXED_TIME, READABLE = (1980, 1, 1, 0, 0, 0), 0o100644 << 16  # so that equal files give an equal zip file


def write(study: params.Study) -> Path:
    """Writes reports/<study>/<study>.zip; ValueError if a step or the report is stale, or the study is being run."""
    require_finished(study)
    root, path = files.study_folder(study.study), bundle_file(study)
    with locks.locked(root / ".lock", f"study {study.study}", wait=False), files.replacing(path) as temporary:
        _write_zip(temporary, study.study, contents(study, root))
    return path


def require_finished(study: params.Study) -> None:
    """ValueError that names each step of a study, or its report, that has not run or is stale."""
    reasons = {step.label: own_files.stale_reasons(step, study) for step in steps.study_steps(study)}
    stale = [f"{label}: {'; '.join(why)}" for label, why in reasons.items() if why]
    if stale:
        first = f"study {study.study} has not run to its end; run 'make study STUDY={study.study}' first:"
        raise ValueError("\n  ".join([first, *stale]))


def bundle_file(study: params.Study) -> Path:
    """Path of a study's bundle."""
    return files.study_folder(study.study) / f"{study.study}.zip"


def set_aside(path: Path) -> Path | None:
    """Renames a file made from an earlier report to <name>-outdated, so that nobody passes it on as the present one.

    Returns its new path, None if there is no such file; one that was set aside before is replaced.
    """
    if not path.is_file():
        return None
    return path.replace(path.with_stem(f"{path.stem}-outdated"))


def contents(study: params.Study, root: Path) -> dict[str, Path | bytes]:
    """Files of the bundle by their path in it, or their bytes; each executed notebook also as HTML.

    ValueError for a link to another place, whose content is not the study's.
    """
    results: dict[str, Path | bytes] = {name: root / name for name in index_page.result_files(study)}
    elsewhere = [name for name in results if not (root / name).resolve().is_relative_to(root.resolve())]
    if elsewhere:
        raise ValueError(f"{root / elsewhere[0]}: a link out of the study's folder; expected a file")
    for name in [name for name in results if PurePosixPath(name).name == steps.EXECUTED]:
        notebook = without_paths((root / name).read_text(encoding="utf-8"))
        page = as_html(notebook, PurePosixPath(name).parent.name)
        results |= {name: notebook.encode(), str(PurePosixPath(name).with_suffix(".html")): page.encode()}
    about = readme(study, datasets.of(study)).encode()
    study_file = {f"{study.study}.yaml": files.study_file(study.study)}
    first: dict[str, Path | bytes] = {name: root / name for name in ("report.pdf", index_page.GALLERY)}
    first |= {**study_file, "README.txt": about}
    return first | results | {index_page.NAME: index_page.page(study, list(first), sorted(results)).encode()}


def without_paths(notebook: str) -> str:
    """An executed notebook (JSON) with paths on this machine relative to the project, the reports or home."""
    places = {files.reports_root(): "reports", files.ROOT: ".", Path.home(): "~"}
    for place in sorted(places, key=lambda place: -len(str(place))):
        if place != Path(place.anchor):
            notebook = notebook.replace(json.dumps(str(place), ensure_ascii=False)[1:-1], places[place])
    return notebook


def as_html(notebook: str, title: str) -> str:
    """An executed notebook, as JSON, as one HTML page that loads nothing."""
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # see `lib.study.execution`
    from nbconvert import HTMLExporter  # takes a second to import

    exporter = HTMLExporter(raw_template=TEMPLATE, embed_images=True)
    return exporter.from_file(io.StringIO(notebook), {"metadata": {"name": title}})[0]


def readme(study: params.Study, dataset: Dataset) -> str:
    """What is in the bundle, what is not, and the licence of the data."""
    images = (
        "All images were generated by this project; they show no patient."
        if dataset.phantom
        else "Notebooks and figures show images of patients, and tables hold the names of cases and subjects as in\n"
        "the data set. Pass this file on only as the licence and your approval to use the data allow."
    )
    return f"""{study.title}

Open index.html in a browser; it links to everything below and needs no network.

report.pdf                    the report; every result in it is read from the tables
gallery.html                  every test case with its overlays and metrics, to filter and sort
{study.study + ".yaml":<29} all settings of the study, with reasons
<step>/notebook.html          the executed notebook to read; notebook.ipynb to open in JupyterLab
<step>/tables/, figures/      as printed in the report; .tex and .pdf are for LaTeX
<step>/*.csv                  one row per case, measurement or epoch
05_evaluation/models/         the weights of each run with everything needed to apply them
<step>/record.json            settings, code, inputs and outputs (as hashes); timing.json: date, time and memory
report/                       source of report.pdf (Typst)

Not included: raw and preprocessed images, the predicted masks of all cases (05_evaluation/predictions/), and logs of
TensorBoard.

Data set: {dataset.title}. Licence: {dataset.licence}.
{images}

For research only; no medical device.
"""


def _write_zip(path: Path, folder: str, contents: dict[str, Path | bytes]) -> None:
    """Writes files into a zip file, in the order of their names, below one folder."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in sorted(contents.items()):
            entry = zipfile.ZipInfo(f"{folder}/{name}", FIXED_TIME)
            entry.compress_type = zipfile.ZIP_STORED if PurePosixPath(name).suffix in DENSE else zipfile.ZIP_DEFLATED
            entry.external_attr, entry.create_system = READABLE, 3
            source = content.open("rb") if isinstance(content, Path) else io.BytesIO(content)
            with source, archive.open(entry, "w", force_zip64=True) as packed:
                shutil.copyfileobj(source, packed)
