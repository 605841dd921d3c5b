"""A study's gallery.html: every test case with its overlays and metrics, to sort and filter in a browser.

One file without a network. Pictures are the previews of 05, so raw data is not read; calipers are drawn from 06.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from lib import datasets
from lib.data import cases
from lib.data.cases import QUANTITIES, TRIVIAL_BASELINES
from lib.evaluation import failures, previews
from lib.evaluation.biometry import COLUMNS
from lib.imaging import preview
from lib.imaging.class_colours import PREDICTED, REFERENCE, printed_name
from lib.imaging.head_points import LINES, POINT_COLUMNS
from lib.report import tables
from lib.report.content import measures_heads, read_table
from lib.report.figures.pictures import ellipse_points
from lib.report.index_page import GALLERY
from lib.study import files, params

TEMPLATE = files.ROOT / "reports" / "template"
METRICS = ["dice", "iou", "nsd", "size_error_percent"]
METRICS += [f"{name}_{unit}" for unit in ("mm", "px") for name in ("hd95", "hausdorff", "assd")]
LINE_METRICS = ["error_mm", "error_px", "normalised_error_percent"]
COUNTS = ("tp", "fp", "fn")
METRICS += COUNTS
ALL = "all"  # heading of a metric of all classes or lines
KEY = ["case", "fold", "seed"]
LAYERS = {"reference": "reference", "predicted": "predicted", "outcome": "TP / FP / FN", "biometry": "calipers"}
COLOURS = "cividis"  # of probability and uncertainty, as in the figures
STOPS = 33  # of the colours


def page(study: params.Study) -> str:
    """The page as HTML, the same text for the same files; ValueError if one of them is missing."""
    values = _values(study)
    entries, drawn = _entries(study, values)
    columns = [{key: column[key] for key in ("title", "metric", "of", "digits", "signed")} for column in values]
    choices = {
        "class": _names(study),
        **{key: [*dict.fromkeys(entry[key] for entry in entries)] for key in ("fold", "seed", "group")},
        "flag": sorted({flag for entry in entries for flag in entry["flags"]}),
    }
    layers = [name for name in LAYERS if any(f'class="{name}"' in text for text in drawn)]
    data = {"columns": columns, "entries": entries, "choices": choices, "down": study.learns_landmarks}
    data["layers"] = [{"name": name, "label": LAYERS[name], "checked": name != "outcome"} for name in layers]
    data["maps"] = ["probability", "uncertainty"] * any('class="probability"' in text for text in drawn)
    script = (TEMPLATE / "gallery.js").read_text(encoding="utf-8")
    lines = {"reference": f"3px solid {REFERENCE}", "prediction": f"3px dashed {PREDICTED}"}
    shown = (f'<span class="line" style="border-top:{line}"></span> {name}' for name, line in lines.items())
    about = f"Study {escape(study.study)}: {len(entries)} predictions of test cases, {', '.join(shown)}. "
    about += "" if study.learns_landmarks else "Masks and metrics are those after post-processing. "
    about += "For research only."
    parts = {
        "POLICY": policy(script),
        "TITLE": escape(study.title),
        "ABOUT": about,
        "OUTCOMES": ", ".join(
            f'<span class="key" style="background:{colour}"></span>{name}' for name, colour in preview.OUTCOMES.items()
        ),
        "BAR": ", ".join(matplotlib.colors.to_hex(colour) for colour in _colours(np.linspace(0, 1, 9))),
        "FILTERS": _filters(),
        "PICTURES": "".join(f'<template id="picture{place}">{text}</template>' for place, text in enumerate(drawn)),
        "DATA": in_script(data),
        "SCRIPT": script,
    }
    template = (TEMPLATE / "gallery.html").read_text(encoding="utf-8")
    return re.sub("@@([A-Z]+)@@", lambda found: parts[found[1]], template)  # in one pass: parts may hold @@


def policy(script: str) -> str:
    """What a browser may do with the page: run this script, show pictures in it, and load nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def in_script(value: Any) -> str:
    """JSON that can stand in a <script> element: nothing in it ends the element or is taken for markup."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _names(study: params.Study) -> list[str]:
    """Printed names of the structures that are segmented; none where landmarks are learnt."""
    return [] if study.learns_landmarks else [printed_name(name) for name in study.classes[1:]]


def _values(study: params.Study) -> list[dict[str, Any]]:
    """Columns of the page, the one that cases are sorted by first, each with its values by (case, fold, seed)."""
    long = read_table(study, "05_evaluation/cases")
    if study.learns_landmarks:
        rows, by, metrics = long[~long["route"].isin(TRIVIAL_BASELINES)], "line", LINE_METRICS
        worst = rows.groupby(KEY)["normalised_error_percent"].agg(lambda errors: errors.max(skipna=False))
        columns = [_column("Largest error (% of OFD)", ALL, "worst_percent", worst)]
    else:
        rows, by, metrics = long[long["stage"] == "post"], "class", METRICS
        columns = [_column("Lowest Dice", ALL, "dice", rows.groupby(KEY)["dice"].min())][: len(study.classes) - 2]
    samples = "voxels" if datasets.of(study).volumes else "pixels"
    for metric in metrics:
        for name in dict.fromkeys(rows[by]):
            of = rows[rows[by] == name].set_index(KEY)[metric]
            title = f"{metric.upper()} ({samples})" if metric in COUNTS else _of_a_case(metric)
            columns.append(_column(title, printed_name(name), metric, of))
    measured = _measured(study)
    for quantity in QUANTITIES:
        rows = measured[measured["quantity"] == quantity].set_index(KEY)
        error_mm = rows["predicted_mm"] - rows["reference_mm"]
        of_quantity = {"predicted_mm": rows["predicted_mm"], "reference_mm": rows["reference_mm"]}
        of_quantity |= {"error_mm": error_mm, "error_percent": 100 * error_mm / rows["reference_mm"]}
        columns += [
            _column(tables.title(name), printed_name(quantity), name, values) for name, values in of_quantity.items()
        ]
    return [column for column in columns if len(column["values"])]


def _measured(study: params.Study) -> pd.DataFrame:
    """Measurements of the predicted heads after post-processing; without rows if none was measured."""
    if not measures_heads(study):
        return pd.DataFrame(columns=COLUMNS)
    table = read_table(study, "06_biometry/measurements")
    return table[(table["stage"] == "post") & ~table["route"].isin(TRIVIAL_BASELINES)]


def _of_a_case(metric: str) -> str:
    """The title of a metric of one case; the tables of the report have its mean."""
    return "Size error (%)" if metric == "size_error_percent" else tables.title(metric).removeprefix("Mean ")


def _column(metric: str, of: str, name: str, values: pd.Series) -> dict[str, Any]:
    """A metric of a class, line or quantity; without values if it is known of no case."""
    known = values.dropna()
    numbers = {key: float(f"{value:.6g}") for key, value in known.items()}
    title = metric if of == ALL else f"{metric}, {of}"
    digits = 0 if name in COUNTS else tables.decimals(name)
    return {"title": title, "metric": metric, "of": of, "digits": digits, "signed": "error" in name, "values": numbers}


def _entries(study: params.Study, columns: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """What is known of each prediction of a test case, in the order of 05, and the pictures that they refer to."""
    long = read_table(study, "05_evaluation/cases")
    manifest = files.read_csv(files.study_folder(study.study) / "01_data_verification/cases.csv", cases.CASE_COLUMNS)
    groups = cases.group_of(manifest["stratum"]).map(cases.group_names(manifest))
    about = manifest.assign(group=groups).set_index("case", drop=False)
    present, flags, calipers = _present(study, long), _flags(study), _calipers(study, about)
    entries, drawn = [], []
    for key in dict.fromkeys(long[KEY].itertuples(index=False, name=None)):
        row = about.loc[key[0]]
        pictures, marked = [], []
        for path in _previews(study, *key):
            text = path.read_text(encoding="utf-8").strip().removesuffix("</svg>") + calipers.get(key, "") + "</svg>"
            pictures.append({"place": len(drawn), "slice": int(path.stem) if datasets.of(study).volumes else None})
            marked.append(int((re.search(r'data-marked="(\d+)"', text) or [0, 0])[1]))
            drawn.append(text)
        entry = dict(zip(KEY, (key[0], str(key[1]), str(key[2])))) | {"subject": row["subject"], "group": row["group"]}
        entry |= {"classes": present.get(key, []), "flags": flags.get(key, []), "pictures": pictures}
        entry |= {"main": int(np.argmax(marked)), "values": [column["values"].get(key) for column in columns]}
        entries.append(entry)
    return entries, drawn


def _previews(study: params.Study, case: str, fold: int, seed: int) -> list[Path]:
    """Previews of a case; ValueError if there is none."""
    evaluation = files.study_folder(study.study) / "05_evaluation"
    found = previews.preview_files(evaluation, case, fold, seed, datasets.of(study).volumes)
    if not found:
        where = evaluation / previews.FOLDER / files.run_name(fold, seed)
        raise ValueError(f"{where}: no preview of case {case}, but required by {GALLERY}; rerun notebook 05_evaluation")
    return found


def _present(study: params.Study, long: pd.DataFrame) -> dict[tuple, list[str]]:
    """Printed names of the classes in the reference or prediction of each case, by key."""
    if study.learns_landmarks:
        return {}
    rows = long[(long["stage"] == "post") & (long["tp"] + long["fp"] + long["fn"] > 0)]
    return {key: [printed_name(name) for name in of["class"]] for key, of in rows.groupby(KEY)}


def _flags(study: params.Study) -> dict[tuple, list[str]]:
    """Flags of the measurements and kinds of failure of each case, by key, without repetition."""
    listed = [read_table(study, f"{step}/failures") for step in ("05_evaluation", "06_biometry")]
    pairs = [
        (key, flag) for *key, text in _measured(study)[[*KEY, "flags"]].values for flag in text.split("; ") if flag
    ]
    for table in listed:
        failed = table[table["kind"] != failures.NOT_FAILED] if len(table) else table
        pairs += [(key, kind) for *key, kind in failed.reindex(columns=[*KEY, "kind"]).values]
    found: dict[tuple, dict[str, None]] = {}
    for key, flag in pairs:
        found.setdefault(tuple(key), {})[flag] = None
    return {key: list(of) for key, of in found.items()}


def _calipers(study: params.Study, about: pd.DataFrame) -> dict[tuple, str]:
    """Layers with the lines of OFD and BPD of each predicted head, their lengths and the ellipse, by key.

    Where landmarks are learnt, the lines between the published points are drawn as the reference.
    """
    heads = read_table(study, "06_biometry/points")
    heads = heads[~heads["route"].isin(TRIVIAL_BASELINES)] if len(heads) else heads
    published = read_table(study, "01_data_verification/points").set_index("case") if study.learns_landmarks else None
    drawn = {}
    for row in heads.to_dict("records"):
        case = about.loc[row["case"]]
        layers = [biometry_layer(_points(row), case, row["route"] == "ellipse")]
        if published is not None:
            layers.insert(0, _lines("reference", REFERENCE, False, _points(published.loc[row["case"]]), case))
        drawn[tuple(row[name] for name in KEY)] = "".join(layers)
    return drawn


def _points(row: Mapping[str, Any]) -> np.ndarray:
    """Endpoints of OFD and BPD, (4, 2) of native (row, col)."""
    return np.array([row[name] for name in POINT_COLUMNS], float).reshape(4, 2)


def biometry_layer(points: np.ndarray, case: Mapping[str, Any], is_ellipse: bool) -> str:
    """The calipers of a head with endpoints (4, 2) in native (row, col), NaN without one, and its ellipse.

    Lengths are in mm, or in pixels without a pixel size; `case` is a row of the manifest.
    """
    curve = ""
    if is_ellipse and np.isfinite(points).all():
        curve = preview.path(_command(_placed(ellipse_points(points, 72), case)) + "Z")
    return _lines("biometry", PREDICTED, True, points, case, curve)


def _lines(layer: str, colour: str, dashed: bool, points: np.ndarray, case: Mapping[str, Any], more: str = "") -> str:
    """A layer with both lines and, of a prediction, their lengths beside the first endpoint."""
    spacing_mm = cases.spacing_mm(case)
    letters, width = float(case["width"]) / 24, float(case["width"])
    drawn = [more]
    for name, ends in zip(LINES, (points[:2], points[2:])):
        if np.isfinite(ends).all():
            placed = _placed(ends, case)
            drawn.append(preview.path(_command(placed)))
            if dashed:
                length = np.linalg.norm((ends[1] - ends[0]) * np.array(spacing_mm or (1.0, 1.0)))
                text = f"{printed_name(name)} {length:.1f} {'mm' if spacing_mm else 'px'}"
                x, y = placed[0] + (0.25 * letters, -0.35 * letters)
                place = f'transform="translate({x:.1f} {max(y, letters):.1f}) scale({letters:.1f})"'
                place += ' text-anchor="end"' * bool(x > 0.7 * width)  # or the frame would cut it
                drawn.append(f'<text {place} font-size="1" font-family="sans-serif" fill="white">{text}</text>')
    inner = "".join(drawn)
    return f'<g class="{layer}" {preview.line_style(colour, dashed)}>{inner}</g>' if inner else ""


def _placed(points: np.ndarray, case: Mapping[str, Any]) -> np.ndarray:
    """Native points (N, 2) of (row, col) as (x, y) of a preview."""
    spacing_mm = cases.spacing_mm(case)
    aspect = spacing_mm[0] / spacing_mm[1] if spacing_mm else 1.0
    return np.stack([points[:, 1] + 0.5, (points[:, 0] + 0.5) * aspect], axis=1)


def _command(placed: np.ndarray) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)


def _colours(share: np.ndarray) -> np.ndarray:
    """Colours (N, 3), 0 to 1, of values from 0 to 1."""
    return matplotlib.colormaps[COLOURS](share)[:, :3]


def _filters() -> str:
    """SVG filters that colour a grey map: by its value, and by the entropy of that probability in bits."""
    share = np.linspace(0, 1, STOPS)
    inner = np.clip(share, 1e-9, 1 - 1e-9)
    entropy = -inner * np.log2(inner) - (1 - inner) * np.log2(1 - inner)
    drawn = []
    for name, values in (("probability", share), ("uncertainty", entropy)):
        table = zip("RGB", _colours(values).T)
        parts = "".join(
            f'<feFunc{channel} type="table" tableValues="{" ".join(f"{value:.3f}" for value in of)}"/>'
            for channel, of in table
        )
        mixed = f'<feComponentTransfer>{parts}<feFuncA type="linear" slope="0.65"/></feComponentTransfer>'
        drawn.append(f'<filter id="{name}" color-interpolation-filters="sRGB">{mixed}</filter>')
    return f'<svg width="0" height="0" style="position:absolute">{"".join(drawn)}</svg>'
