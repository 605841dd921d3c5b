"""Audit of published landmarks against themselves, their images and the reference masks, before training on them."""

import numpy as np
import pandas as pd

from lib.data.cases import PIXEL_SIZE, has_pixel_size
from lib.data.findings import Check, Finding, fact_table
from lib.imaging.ellipse import Ellipse
from lib.imaging.head_points import POINTS, as_arrays, line_lengths

MAX_CASE_FRACTION = 0.10  # a problem in more cases is one of the table, and stops the study
FIT_LENGTH, FIT_TURN_DEG = 0.10, 25.0  # allowed deviation of a line from an axis of the reference ellipse
FITS = ("as named", "exchanged", "neither")
NEARLY_ROUND = 0.90  # axis ratio above which the direction of an ellipse's axes is not determined
FAR_OUTSIDE_PERCENT = 5.0  # of the image's shorter side; in FP, where the frame cuts heads, the maximum is 3

CORRECT = "correct the row or exclude the case; if many are wrong, use another table"
SWAP = "swap BPD and OFD in the row or exclude the case; if many are wrong, swap them in the header"
NO_LANDMARKS = Check("no landmarks", "add a row for each image; images without landmarks are left out")
ROWS_WITHOUT_IMAGE = Check("rows without an image")
BPD_LONGER = Check("BPD longer than OFD", SWAP)
NOT_AT_RIGHT_ANGLES = Check("lines not at right angles", CORRECT)
MIDPOINTS_APART = Check("midpoints far apart", CORRECT)
LINE_TOO_SHORT = Check("line too short", CORRECT)
POINT_OUTSIDE = Check("point outside the image", f"no action needed if the frame cuts the head; otherwise {CORRECT}")
WHICH_SIZE = "find out which is correct; millimetres are computed with the pixel size of the data set"
PIXEL_SIZE_DIFFERS = Check("pixel size differs", WHICH_SIZE)
ENDPOINT_OFF_OUTLINE = Check("endpoint off the outline", CORRECT)
SWAPPED = Check("BPD and OFD swapped", SWAP)
ALONG_NO_AXIS = Check("lines along no axis", CORRECT)
POINT_FAR_OUTSIDE = Check("point far outside the image", CORRECT)
# Limits of a case's measurements: check, column, side, limit, message.
LIMITS = (
    (BPD_LONGER, "bpd_over_ofd", "at most", 1.0, "BPD is {:.2f} times OFD"),
    # Manually set lines of FP and UCL cross at 82 degrees or more; their midpoints are up to 8 % of OFD apart.
    (NOT_AT_RIGHT_ANGLES, "angle_deg", "at least", 80.0, "lines cross at {:.0f}°"),
    (MIDPOINTS_APART, "middle_percent", "at most", 10.0, "midpoints are {:.0f} % of the longer line apart"),
    (LINE_TOO_SHORT, "shortest_percent", "at least", 5.0, "{:.1f} % of the image's shorter side"),
    (POINT_OUTSIDE, "outside_percent", "at most", 0.0, "{:.1f} % of the shorter side outside"),
    (PIXEL_SIZE_DIFFERS, "pixel_size_percent", "at most", 1.0, "{:.1f} % from that of the data set"),
    # The skull is about 2 % of the head's length thick, and calipers are set on its inner or outer side.
    (ENDPOINT_OFF_OUTLINE, "farthest_percent", "at most", 3.0, "farthest endpoint {:.1f} % of the head's length off"),
)


def audit(
    table: pd.DataFrame, manifest: pd.DataFrame, ellipses: dict[str, Ellipse]
) -> tuple[pd.DataFrame, list[Finding]]:
    """Audits landmarks (`landmark_tables.read`) and returns the table of `describe` and the findings.

    The table covers the cases of the manifest that have landmarks, in its order. A problem in more than a tenth of the
    cases is one finding that stops the study; otherwise it is a warning for each case. `ellipses` are fitted to the
    reference masks, by case, in mm if the pixel size is known, else in pixels; cases without one skip these checks.
    """
    has_points, has_image = manifest["case"].isin(table["case"]), table["case"].isin(manifest["case"])
    findings = []
    if not has_points.all():
        severity = "warn" if has_points.any() else "stop"
        found = f"{_fraction(manifest['case'], ~has_points)}: left out"
        findings.append(Finding(severity, NO_LANDMARKS, "landmarks", found, "a row for each image"))
    if not has_image.all():
        found = _fraction(table["case"], ~has_image)
        findings.append(Finding("note", ROWS_WITHOUT_IMAGE, "landmarks", found, "not used"))
    audited = describe(table, manifest[has_points].set_index("case"), ellipses)
    return audited, findings + findings_of(audited)


def describe(table: pd.DataFrame, about: pd.DataFrame, ellipses: dict[str, Ellipse]) -> pd.DataFrame:
    """Measurements of the audit, one row per case of `about`, the manifest indexed by case.

    Columns: case; ofd_px, bpd_px, ofd_mm, bpd_mm, bpd_over_ofd; angle_deg between the lines, 0 to 90; middle_percent,
    distance of their midpoints in percent of the longer line; shortest_percent and outside_percent, the shorter line
    and the largest distance of a point beyond the frame in percent of the image's shorter side; pixel_size_percent,
    difference from the manifest's pixel size; fit, whether OFD and BPD are the long and short axis of the reference
    ellipse ("as named", "exchanged", "neither", "" without an ellipse); farthest_percent, largest distance of an
    endpoint from the ellipse in percent of its long axis; <point>_off_px and <point>_off_mm of each endpoint.
    """
    points = as_arrays(table, about.index.tolist())  # (N, 4, 2)
    spacing, known = about[PIXEL_SIZE].to_numpy(float), has_pixel_size(about).to_numpy()  # (N, 2), (N,)
    unit = np.where(known[:, None], spacing, 1.0)  # mm, or pixels where no pixel size is known
    side = about[["height", "width"]].to_numpy(float)  # (N, 2)
    shorter, pixels = side.min(axis=1), line_lengths(points)
    scaled = points * unit[:, None]
    beyond = np.maximum(-0.5 - points, points - (side - 0.5)[:, None]).max(axis=(1, 2))
    published = table.set_index("case")["px_to_mm"].reindex(about.index).to_numpy(float)
    unknown = Ellipse((np.nan, np.nan), np.nan, np.nan, np.nan)
    fitted = [ellipses.get(name) or unknown for name in about.index]
    axes = np.array([[*each.centre, each.major, each.minor, each.angle_deg] for each in fitted]).reshape(-1, 5)
    off = _to_outline(scaled, axes)  # (N, 4, 2)
    lengths_mm, off_mm = (np.where(known, values.T, np.nan) for values in (line_lengths(scaled), _norm(off)))
    columns = {
        "case": about.index,
        **dict(zip(("ofd_px", "bpd_px", "ofd_mm", "bpd_mm"), (*pixels.T, *lengths_mm))),
        **_describe_lines(scaled),
        "shortest_percent": 100 * pixels.min(axis=1) / shorter,
        "outside_percent": 100 * np.maximum(beyond, 0) / shorter,
        "pixel_size_percent": 100 * np.abs(published / np.sqrt(spacing.prod(axis=1)) - 1),
        "fit": _fit(scaled, axes),
        "farthest_percent": 100 * _norm(off).max(axis=1) / axes[:, 2],
        **dict(zip((f"{point}_off_px" for point in POINTS), _norm(off / unit[:, None]).T)),
        **dict(zip((f"{point}_off_mm" for point in POINTS), off_mm)),
    }
    return pd.DataFrame(columns)


def _norm(steps: np.ndarray) -> np.ndarray:
    """Lengths of vectors (..., 2)."""
    return np.linalg.norm(steps, axis=-1)


def _describe_lines(points: np.ndarray) -> dict[str, np.ndarray]:
    """Ratio, angle and midpoint distance of the two lines of each head; NaN for a line of length 0."""
    ofd, bpd = points[:, 1] - points[:, 0], points[:, 3] - points[:, 2]
    lengths = line_lengths(points)
    between = _norm(points[:, :2].mean(axis=1) - points[:, 2:].mean(axis=1))  # midpoints
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.abs((ofd * bpd).sum(axis=1)) / lengths.prod(axis=1)
        return {
            "bpd_over_ofd": lengths[:, 1] / lengths[:, 0],
            "angle_deg": np.degrees(np.arccos(np.minimum(cosine, 1))),
            "middle_percent": 100 * between / lengths.max(axis=1),
        }


def _directions(axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (row, col) of the long and the short axis: (N, 5) -> two (N, 2)."""
    cos, sin = np.cos(np.deg2rad(axes[:, 4])), np.sin(np.deg2rad(axes[:, 4]))
    return np.column_stack([sin, cos]), np.column_stack([cos, -sin])


def _fit(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Whether the two lines match the axes of the reference ellipse in length and direction: (N,) of FITS or ''."""
    steps, lengths = points[:, 1::2] - points[:, ::2], line_lengths(points)  # (N, 2, 2), (N, 2): OFD, BPD
    directions, sizes = np.stack(_directions(axes), axis=1), axes[:, 2:4]  # (N, 2, 2), (N, 2): long, short axis
    nearly_round = sizes[:, 1:] > NEARLY_ROUND * sizes[:, :1]

    def follow(order: slice) -> np.ndarray:
        """Whether both lines match the axes taken in this order."""
        cosine = np.abs((steps * directions[:, order]).sum(axis=2)) / np.maximum(lengths, 1e-9)
        is_parallel = (cosine >= np.cos(np.deg2rad(FIT_TURN_DEG))) | nearly_round
        return (is_parallel & (np.abs(lengths / sizes[:, order] - 1) <= FIT_LENGTH)).all(axis=1)

    fits = [np.isnan(axes[:, 2]), follow(slice(None)), follow(slice(None, None, -1))]
    return np.select(fits, ["", *FITS[:2]], FITS[2])


def _to_outline(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Vectors from points to the nearest position on the ellipse of their case: (N, 4, 2), (N, 5) -> (N, 4, 2).

    Iterates in the first quadrant of the ellipse: the next position is where the circle of curvature at the current one
    meets the ray from its centre to the point. After four iterations the error is below 0.00002 of the axis in heads.
    """
    along, across = (each[:, None] for each in _directions(axes))  # (N, 1, 2)
    long, short = axes[:, 2:3] / 2, axes[:, 3:4] / 2  # (N, 1)
    away = points - axes[:, None, :2]
    u, v = (away * along).sum(axis=2), (away * across).sum(axis=2)  # (N, 4)
    x, y = np.full_like(u, np.sqrt(0.5)), np.full_like(u, np.sqrt(0.5))
    for _ in range(4):
        middle_x = (long**2 - short**2) * x**3 / long
        middle_y = (short**2 - long**2) * y**3 / short
        radius = np.hypot(long * x - middle_x, short * y - middle_y)
        ray_x, ray_y = np.abs(u) - middle_x, np.abs(v) - middle_y
        stretch = radius / np.maximum(np.hypot(ray_x, ray_y), 1e-12)
        x = np.clip((ray_x * stretch + middle_x) / long, 0, 1)
        y = np.clip((ray_y * stretch + middle_y) / short, 0, 1)
        size = np.maximum(np.hypot(x, y), 1e-12)
        x, y = x / size, y / size
    du, dv = np.copysign(long * x, u) - u, np.copysign(short * y, v) - v
    return du[..., None] * along + dv[..., None] * across


def findings_of(audited: pd.DataFrame) -> list[Finding]:
    """Findings that follow from the table of `describe`."""
    findings = []
    for check, column, side, limit, message in LIMITS:
        values = audited[column]
        is_wrong = values > limit if side == "at most" else values < limit
        findings += _grade(audited, check, is_wrong, [message.format(value) for value in values], f"{side} {limit:g}")
    limits = f"lengths within {FIT_LENGTH:.0%}, directions within {FIT_TURN_DEG:g}°"
    for check, fit, found, expected in (
        (SWAPPED, FITS[1], "each line matches the axis of the other", "OFD along the long axis"),
        (ALONG_NO_AXIS, FITS[2], "lines match the axes of the reference ellipse in neither order", limits),
    ):
        findings += _grade(audited, check, audited["fit"] == fit, [found] * len(audited), expected)
    far = audited[audited["outside_percent"] > FAR_OUTSIDE_PERCENT]
    expected = f"at most {FAR_OUTSIDE_PERCENT:g} % of the shorter side"
    return findings + [
        Finding("stop", POINT_FAR_OUTSIDE, case, f"{percent:.1f} % outside", expected)
        for case, percent in zip(far["case"], far["outside_percent"])
    ]


def _grade(audited: pd.DataFrame, check: Check, is_wrong: pd.Series, texts: list[str], expected: str) -> list[Finding]:
    """One finding that stops the study if more than MAX_CASE_FRACTION are wrong, else a warning per case."""
    if is_wrong.mean() > MAX_CASE_FRACTION:
        found = f"{_fraction(audited['case'], is_wrong)}; {_overall(audited, check)}"
        return [Finding("stop", check, "landmarks", found, expected)]
    rows = zip(audited["case"], texts, is_wrong)
    return [Finding("warn", check, case, text, expected) for case, text, wrong in rows if wrong]


def _overall(audited: pd.DataFrame, check: Check) -> str:
    """Summary of a check over all cases."""
    facts = dict(summary(audited).itertuples(index=False))
    fits = {fit: facts.get(f"lines fit the ellipse: {fit}", 0) for fit in FITS}
    texts = [f"median of all: {text.format(audited[column].median())}" for c, column, *_, text in LIMITS if c == check]
    if check == BPD_LONGER and fits["exchanged"]:
        texts.append(f"if swapped, the lines of {fits['exchanged']:.0f} cases fit the reference ellipse")
    if check == ENDPOINT_OFF_OUTLINE:
        texts.append(
            f"of all endpoints, {facts['ends more than 10 px off (%)']:.0f} % are more than 10 px off, "
            f"50 % within {facts['ends off the outline, median (px)']:.1f} px, "
            f"90 % within {facts['ends off the outline, 90 % within (px)']:.1f} px"
        )
    return "; ".join(texts) or ", ".join(f"{count:.0f} fit {fit}" for fit, count in fits.items())


def _fraction(cases: pd.Series, is_affected: pd.Series) -> str:
    """Number and percentage of affected cases, and the names of the first five."""
    names = cases[is_affected].tolist()
    more = ", …" if len(names) > 5 else ""
    return f"{len(names)} of {len(cases)} cases ({len(names) / len(cases):.0%}): {', '.join(names[:5])}{more}"


def summary(audited: pd.DataFrame) -> pd.DataFrame:
    """Summary of the audit with one row per fact: fact, value."""
    px, mm = (audited[[f"{point}_off_{unit}" for point in POINTS]].to_numpy().ravel() for unit in ("px", "mm"))
    px, mm = px[np.isfinite(px)], mm[np.isfinite(mm)]
    facts: dict[str, float] = {
        "cases with landmarks": len(audited),
        "BPD longer than OFD": int((audited["bpd_over_ofd"] > 1).sum()),
        "BPD/OFD, median": audited["bpd_over_ofd"].median(),
        "least angle between the lines (°)": audited["angle_deg"].min(),
        "cases with a point outside the image": int((audited["outside_percent"] > 0).sum()),
    }
    if px.size:
        facts |= {f"lines fit the ellipse: {fit}": int((audited["fit"] == fit).sum()) for fit in FITS}
        facts["ends more than 10 px off (%)"] = 100 * (px > 10).mean()
    for off, unit in ((px, "px"), (mm, "mm")):
        if off.size:
            facts[f"ends off the outline, median ({unit})"] = np.median(off)
            facts[f"ends off the outline, 90 % within ({unit})"] = np.quantile(off, 0.9)
    return fact_table(facts)
