"""The PDF report of a study: collects its results and typesets them.

Every number is read from a file of the study; `lib.report.recompute` checks them on its own. The report's folder
contains `content.json` and a copy of the template, so the text can be edited and compiled again:
`typst compile --root <study> --font-path <study>/report/fonts <study>/report/report.typ`.
"""

import datetime
import re
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import typst

from lib import datasets
from lib.data import cases, splits
from lib.data.dataset import Dataset
from lib.imaging import volumes
from lib.report import constants, content, fonts, index_page, materials, origins, tables, texts
from lib.report.content import as_rows, read_table, required
from lib.report.summaries import characteristics
from lib.study import files, locks, own_files, params, staleness, steps, system_files
from lib.study.steps import study_steps
from lib.verification import overview

TEMPLATE = files.ROOT / "reports" / "template"
STEP = steps.Step("report")
PDF_ONLY = (".typ", ".bib")  # files of the template that the gallery does not use
MAX_LISTED_FINDINGS = 25  # further ones are only in findings.csv
AFTER_POST = (  # printed without raw masks
    *("05_evaluation/per_class", "05_evaluation/detection", "05_evaluation/presence", "05_evaluation/parts"),
    *("05_evaluation/distances", "05_evaluation/distances-pixels", "05_evaluation/size-errors"),
    "06_biometry/agreement",
)
# Each text readable aloud, each picture described, nothing outside the file; and the same without what is for reading.
TAGGED = {"pdf_standards": ["a-2a", "ua-1"]}
UNTAGGED = {"pdf_standards": ["a-2b"], "pdf_tags": False}
# Errors about tags alone: an author's text may skip a level of headings, and where a float meets the end of a page
# Typst itself can fail (github.com/typst/typst, 8487).
NOT_TAGGED = ("PDF/UA-1 error", "internal error")
PRINTED = {"figures": {".svg", ".png"}, "tables": {".typ"}}  # suffixes by folder of a step
DATASET_FIELDS = ("title", "citation", "licence", "subject", "channels", "volumes", "outlines", "names_subjects")


def write_pdf(study: params.Study, draft: bool = False) -> Path:
    """Writes a study's PDF, gallery.html, index.html and record; a draft asks for the texts that are not written yet.

    ValueError if a step is stale, a file is missing, or Typst warns. FaultyTextsError, after all but the record is
    written, if a text of the author does not compile; the PDF has a warning in its place.
    """
    reasons = {step.label: staleness.stale_reasons(step, study) for step in steps.step_inputs(STEP, study)}
    stale = [f"{label}: {'; '.join(why)}" for label, why in reasons.items() if why]
    if stale:
        raise ValueError("\n  ".join([f"study {study.study} is not up to date; run it before its report:", *stale]))
    folder, pdf = STEP.folder(study.study), files.study_folder(study.study) / "report.pdf"
    with locks.locked(folder / locks.STEP, f"the report of study {study.study}"):
        _write(study, folder, pdf, draft)
    return pdf


def _write(study: params.Study, folder: Path, pdf: Path, draft: bool) -> None:
    """Writes all files of the report; the caller holds the lock of its folder."""
    last = steps.read_record(STEP, study)
    before = steps.snapshot(STEP, study) | {"texts": own_files.hashes(study.study), "draft": draft}
    found = texts.sources(study.study)
    STEP.record_file(study.study).unlink(missing_ok=True)
    contents = collect(study)
    contents["tables"] |= write_post_tables(study, folder, contents["tables"])
    contents["texts"] = texts.write(study.study, found, folder, draft)
    files.write_json(folder / "content.json", contents)
    for source in system_files.visible(TEMPLATE):
        if source.stem != "gallery":
            files.write_bytes(folder / source.name, source.read_bytes())
    source, date = folder / "report.typ", contents["provenance"]["date"]
    printed, faults = texts.typeset(lambda: typeset(source, date), folder / "content.json", found)
    files.write_bytes(pdf, printed)
    page, own = pdf.with_name(index_page.GALLERY), steps.own_values(STEP, study)
    if not _is_current(page, last, before | {"own": own}):
        from lib.report import gallery  # imports matplotlib

        files.write_text(page, gallery.page(study))
    index = index_page.page(study, [pdf.name, page.name], index_page.result_files(study))
    files.write_text(pdf.with_name(index_page.NAME), index)
    if faults:
        raise texts.FaultyTextsError(texts.described(faults, found))
    steps.write_record(folder, STEP, own, [], "", before)


def _is_current(page: Path, last: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    """Whether the gallery is that of the last report, and nothing but texts and the template has changed since."""
    if last is None or not page.is_file() or last["outputs"].get(f"../{page.name}") != files.sha256(page):
        return False
    code = [{name: each for name, each in of["code"].items() if not name.endswith(PDF_ONLY)} for of in (last, now)]
    return code[0] == code[1] and all(last[part] == now[part] for part in ("own", "inputs"))


def typeset(source: Path, date: str) -> bytes:
    """PDF of report.typ, identical for equal files and date (as in timing.json); ValueError if Typst fails or warns.

    The PDF is tagged, for reading aloud (PDF/UA) and for archives (PDF/A). The report's font and Typst's have Latin,
    Greek, Cyrillic, Arabic, Hebrew and Devanagari letters. Only if they lack a character are the machine's fonts used
    too; what none of them has is printed as its code, by `without_font` in content.json.
    """
    try:
        try:
            pdf, warnings = _compiled(source, date, TAGGED)
        except typst.TypstError as error:
            if not any(fault in str(error) for fault in NOT_TAGGED):
                raise
            sys.stderr.write(f"{source}: written without tags for reading aloud, since Typst cannot tag it: {error}\n")
            pdf, warnings = _compiled(source, date, UNTAGGED)
    except typst.TypstError as error:
        raise ValueError(f"{source} does not compile:\n{error.diagnostic}") from error
    if warnings:
        said = "".join(warning.diagnostic for warning in warnings)
        raise ValueError(f"{source}: {len(warnings)} warnings:\n{said}")
    return pdf


def _compiled(source: Path, date: str, options: dict[str, Any]) -> tuple[bytes, list[typst.TypstWarning]]:
    """PDF and warnings, with the machine's fonts where the report's lack a character."""
    moment = datetime.datetime.strptime(date, "%Y-%m-%d %H:%M UTC").replace(tzinfo=datetime.UTC)
    places = {"root": source.parent.parent, "font_paths": [fonts.copy_to(source.with_name("fonts"))]}
    compiler = typst.Compiler(source, ignore_system_fonts=True, **places)
    try:
        return compiler.compile_with_warnings(format="pdf", timestamp=moment, **options)
    except typst.TypstError as error:
        if not not_shown(error):
            raise
    compiler = typst.Compiler(source, **places)
    print_as_codes(compiler, source.with_name("content.json"), options)
    return compiler.compile_with_warnings(format="pdf", timestamp=moment, **options)


def print_as_codes(compiler: typst.Compiler, content_file: Path, options: dict[str, Any]) -> None:
    """Lists characters without a font in the content, for the template; of joined ones some show only afterwards."""
    missing, more = set[str](), {""}
    while more:
        missing |= more
        files.write_json(content_file, files.read_json(content_file) | {"without_font": "".join(sorted(missing))})
        more = set(without_font(compiler, options)) - missing


def without_font(compiler: typst.Compiler, options: dict[str, Any]) -> str:
    """Characters of a document for which the compiler has no font, or which PDF/A and PDF/UA do not allow.

    TypstError if the document does not compile. An ordinary PDF lacks such characters without a warning, but one that
    must show every text is refused. PDF/A allows no characters of private use, whose meaning only one font knows.
    """
    try:
        compiler.compile(format="pdf", **options)
    except typst.TypstError as error:
        missing = not_shown(error)
        if not missing:
            raise
        return missing
    return ""


def not_shown(error: typst.TypstError) -> str:
    """The characters that an error is about, since no font has them or a standard forbids them; "" if it is another."""
    no_font = _quoted(r'the text `"(.*?)"` could not be displayed', error.diagnostic)
    not_allowed = _quoted(r'codepoint `"(.*?)"`', error.diagnostic)
    return "".join(sorted({each for each in no_font if not is_joiner(each)} | not_allowed))


def _quoted(pattern: str, diagnostic: str) -> set[str]:
    """Characters of the texts that a message quotes, without those that stand on every keyboard."""
    text = "".join(re.findall(pattern, diagnostic))
    text = re.sub(r"\\u\{([0-9a-f]+)\}", lambda escaped: chr(int(escaped[1], 16)), text)
    return {each for each in text if not (each.isascii() and each.isprintable())}


def is_joiner(character: str) -> bool:
    """Whether a character only joins or selects the form of others (format characters, variation selectors)."""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"


def collect(study: params.Study) -> dict[str, Any]:
    """The content of the template as JSON values; None or an empty list where the kind of study has no such results."""
    before = [step for step in study_steps(study) if step != STEP]
    records = {step.label: files.read_json(step.record_file(study.study)) for step in before}
    dataset, regions = datasets.of(study), not study.learns_landmarks
    about = {"study": study.model_dump(), "kind": "regions" if regions else "landmarks"}
    about |= {"parameters": parameters(study), "spline_order": volumes.SPLINE_ORDER}
    about["constants"] = constants.describe()
    of_data = {"data": describe_data(study), "parts": describe_parts(study), "identity": describe_identity(study)}
    of_data["dataset"] = {name: getattr(dataset, name) for name in DATASET_FIELDS}
    of_data["made_here"] = dataset.phantom is not None
    of_data["software"] = content.describe_software(own_files.citation_file())
    of_data["landmarks"] = None if regions else content.describe_landmarks(study)
    of_data["lost"] = content.describe_lost(study) if dataset.volumes else None
    of_data |= describe_materials(study, dataset)
    network = {"model": files.read_json(required(study, "03_model/model.json"))}
    network["layers"] = content.describe_layers(study)
    network["runs"] = [describe_run(step, study) for step in before if step.run]
    of_kind = content.describe_regions(study, dataset.volumes) if regions else content.describe_points(study)
    results = {"evaluation": content.describe_evaluation(study) | of_kind}
    results["intervals"] = content.describe_intervals(study)
    results["biometry"] = content.describe_biometry(study) if content.measures_heads(study) else None
    results |= content.describe_widths(study)
    results |= {"group_names": content.describe_groups(study), "every_case": content.describe_cases(study)}
    results["shapes"] = content.rows_of(study, "06_biometry/tables/shapes") if regions and not dataset.volumes else []
    results["sizes"] = content.rows_of(study, "06_biometry/tables/volumes") if dataset.volumes else []
    results["volume_limits"] = content.rows_of(study, "06_biometry/tables/volume-limits") if dataset.volumes else []
    results["comparison"] = content.describe_comparison(study) if study.compare_with else None
    results["findings"] = content.describe_findings(study, [step for step in before if step.run], dataset.volumes)
    printed = {kind: printed_files(study, kind, suffixes) for kind, suffixes in PRINTED.items()}
    checks = [{"step": label, "checks": record["checks"]} for label, record in records.items()]
    origin = {"checks": checks, "provenance": describe_provenance(study, records)}
    origin["provenance"]["outputs"] = origins.describe(study, printed, records)
    return plain(about | of_data | network | results | printed | origin)


def plain(value: Any) -> Any:
    """JSON values: NaN and infinity become None, NumPy numbers Python numbers."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def printed_files(study: params.Study, kind: str, suffixes: set[str]) -> dict[str, str]:
    """Figures, or tables with rows: <step>/<name> -> Typst path, relative to the study's folder."""
    root = files.study_folder(study.study)
    return {
        f"{step.label}/{path.stem}": "/" + path.relative_to(root).as_posix()
        for step in study_steps(study)
        for path in sorted((step.folder(study.study) / kind).glob("[!.]*"))
        if path.suffix in suffixes and tables.has_rows(path.with_suffix(".csv"))
    }


def write_post_tables(study: params.Study, folder: Path, printed: Mapping[str, str]) -> dict[str, str]:
    """Writes AFTER_POST, as far as printed, without the rows of raw masks; returns their paths as `printed_files`.

    The table of the effect of post-processing compares raw masks.
    """
    written = {}
    for name in AFTER_POST:
        if name in printed:
            table = read_table(study, name.replace("/", "/tables/"))
            post = table[table["stage"] == "post"].drop(columns="stage")
            path = folder / f"{name.replace('/', '-')}.typ"
            files.write_text(path, tables.to_typst(post, datasets.of(study).subject))
            written[name] = f"/{STEP.label}/{path.name}"
    return written


def parameters(study: params.Study) -> list[dict[str, Any]]:
    """Keys of the study by step, shared ones first: value, allowed values, and reason from the study file."""
    reasons, values = read_reasons(files.study_file(study.study)), params.values_of(study)
    keys_of = {name: params.own_keys(name) for name in params.STEPS if name != "report"}
    groups = []
    for name, keys in ({"all": list(params.SharedParams.model_fields)} | keys_of).items():
        used = [key for key in keys if key in values]
        rows = [{"key": key, "value": as_text(values[key]), "reason": reasons.get(key, "")} for key in used]
        rows = [row | {"allowed": params.AnyKey.model_fields[row["key"]].description} for row in rows]
        # The file of a study of own data has the description as comment where there is no other reason.
        rows = [row | {"reason": row["reason"] * (row["reason"] != row["allowed"])} for row in rows]
        groups.append({"step": name, "rows": rows})
    return groups


def as_text(value: Any) -> str:
    """A parameter's value for printing, with the words of the study file."""
    if isinstance(value, list):
        return ", ".join(as_text(each) for each in value) or "[]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_reasons(path: Path) -> dict[str, str]:
    """The comment after each key of a study file; empty if the file does not exist."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    keyed = [line.partition(" #") for line in lines if line[:1].isalpha()]
    return {before.partition(":")[0]: reason.strip() for before, _, reason in keyed}


def describe_data(study: params.Study) -> dict[str, Any]:
    """Counts and findings, from 01_data_verification."""
    table = files.read_csv(required(study, "01_data_verification/cases.csv"), cases.CASE_COLUMNS)
    findings = read_table(study, "01_data_verification/findings")
    serious, slices = findings[findings["severity"] != "note"], table["slices"]
    sizes = {"total": int(slices.sum()), "least": int(slices.min()), "most": int(slices.max())}
    sizes["median"] = float(slices.median())
    of_cases = {"cases": len(table), "slices": sizes if datasets.of(study).volumes else None}
    of_cases |= {"subjects": table["subject"].nunique(), "largest_subject": table["subject"].value_counts().max()}
    of_cases |= {"with_spacing": table["spacing_row_mm"].notna().sum(), "with_hc": table["hc_mm"].notna().sum()}
    of_findings = {"findings": len(findings), "warnings": len(serious), "notes": len(findings) - len(serious)}
    of_findings["finding_counts"] = as_rows(overview.count_findings(findings))
    of_findings["listed"] = as_rows(serious.head(MAX_LISTED_FINDINGS))
    of_findings["unlisted"] = max(0, len(serious) - MAX_LISTED_FINDINGS)
    return of_cases | of_findings


def describe_materials(study: params.Study, dataset: Dataset) -> dict[str, Any]:
    """Facts of the data set, numbers of the flow diagram, characteristics of each part, and published results."""
    manifest = files.read_csv(required(study, "01_data_verification/cases.csv"), cases.CASE_COLUMNS)
    findings, folds = (read_table(study, f"01_data_verification/{name}") for name in ("findings", "folds"))
    name, lost = study.dataset, read_table(study, "02_preprocessing/lost")
    source, parts = materials.describe_source(name, dataset), materials.parts_of(folds, study.folds, study.fold_count)
    case = "volume" if dataset.volumes else "image"
    words = characteristics.Words(case, dataset.subject, source["group_word"], tuple(study.classes[1:]))
    return {
        "source": source,
        "flow": materials.describe_flow(name, dataset, manifest, findings, len(study.exclude)),
        "characteristics": materials.describe_characteristics(words, manifest, parts, lost),
        "published": materials.published_results(name, dataset, study.learns_landmarks),
    }


def describe_identity(study: params.Study) -> list[dict[str, Any]]:
    """Published data sets that contain most of the images; none if the study's data set identifies its subjects."""
    if datasets.of(study).names_subjects:
        return []
    table = read_table(study, "01_data_verification/tables/identity")
    rows = table[table["twins"] * 2 >= table["cases"]] if len(table) else table
    return [
        raw | {"citation": datasets.DATASETS[raw["dataset"]].citation, "said": printed}
        for raw, printed in zip(rows.to_dict("records"), as_rows(rows))
    ]


def describe_parts(study: params.Study) -> list[dict[str, Any]]:
    """Numbers of training, validation and test cases and subjects for each tested fold."""
    folds = read_table(study, "01_data_verification/folds")
    subject_of = folds.set_index("case")["subject"]
    counts = []
    for fold in study.folds:
        parts = splits.parts(folds, fold).items()
        of_parts = {part: {"cases": len(names), "subjects": subject_of.loc[names].nunique()} for part, names in parts}
        counts.append({"fold": fold} | of_parts)
    return counts


def describe_run(step: steps.Step, study: params.Study) -> dict[str, Any]:
    """One training run: its run.json, and the values of history.csv at the selected epoch."""
    run = files.read_json(required(study, f"{step.label}/run.json"))
    history = read_table(study, f"{step.label}/history")
    selected = history[history["epoch"] == run["best_epoch"]].iloc[0]
    measured = history.drop(columns=["epoch", "best"]).select_dtypes("number")
    reached = {name: tables.format_float(float(selected[name]), name) for name in measured}
    fold, seed = step.run  # type: ignore[misc]
    single = {name: value for name, value in run.items() if not isinstance(value, dict)}  # without its dependencies
    return {"label": step.label, "fold": fold, "seed": seed, **single, "kept": reached}


def describe_provenance(study: params.Study, records: dict[str, dict]) -> dict[str, Any]:
    """Commit, versions, checksum of the data, and time and memory of each step (from timing.json)."""
    timings = {label: files.read_json(required(study, f"{label}/timing.json")) for label in records}
    rows = []
    for label, timing in timings.items():
        row = {"step": label, "date": timing["date"], "time": as_duration(timing["seconds"])}
        row["peak"] = f"{timing['peak_bytes'] / 2**30:.1f}"
        rows.append(row | {name: records[label][name] for name in ("device", "commit")})
    versions = [record["versions"] for record in records.values()]
    of_versions = {"versions": versions[-1], "same_versions": all(each == versions[0] for each in versions)}
    return of_versions | {
        "date": max(row["date"] for row in rows),
        "steps": rows,
        "seconds": as_duration(sum(timing["seconds"] for timing in timings.values())),
        "commits": sorted({row["commit"] for row in rows}),
        "data_sha256": files.sha256(required(study, "01_data_verification/cases.csv")),
    }


def as_duration(seconds: float) -> str:
    """Seconds in words, such as 1 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.0f} s"
