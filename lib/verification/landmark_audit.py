"""Whether published landmarks can be what they are said to be: audited before anything learns from them."""

import numpy as np
import pandas as pd

from lib.data.findings import Check, Finding
from lib.imaging import ellipse
from lib.imaging.ellipse import Ellipse
from lib.imaging.head_points import POINTS, as_arrays, line_lengths

MANY = 0.10  # share of cases from which a fault is the table's and stops the study; below, it is the case's
FIT_LENGTH, FIT_TURN_DEG = 0.10, 25.0  # how far a line may be from an axis of the reference ellipse
FITS = ("as named", "exchanged", "neither")
NEARLY_ROUND = 0.90  # axis ratio above which an ellipse's axes have no sure direction
FAR_OUTSIDE_PERCENT = 5.0  # of the image's shorter side; FP, whose heads the frame cuts, reaches 3

MEND = "mend the row or exclude the case; where many are wrong, use another table"
EXCHANGE = "exchange BPD and OFD in the row or exclude the case; where many are wrong, exchange them in the header"
NO_LANDMARKS = Check("no landmarks", "add a row for each image; images without one are left out")
ROWS_WITHOUT_IMAGE = Check("rows without an image")
BPD_LONGER = Check("BPD longer than OFD", EXCHANGE)
NOT_AT_RIGHT_ANGLES = Check("lines not at right angles", MEND)
NO_COMMON_MIDDLE = Check("lines without a common middle", MEND)
LINE_TOO_SHORT = Check("line too short", MEND)
POINT_OUTSIDE = Check("point outside the image", f"nothing where the frame cuts the head; else {MEND}")
PIXEL_SIZE_DIFFERS = Check(
    "pixel size differs", "find out which is right; millimetres are computed with that of the data set"
)
END_OFF_OUTLINE = Check("end off the outline", MEND)
SWAPPED = Check("BPD and OFD swapped", EXCHANGE)
ALONG_NO_AXIS = Check("lines along no axis", MEND)
POINT_FAR_OUTSIDE = Check("point far outside the image", MEND)
# What each figure of a case may be: check, column, its side, limit, wording.
LIMITS = (
    (BPD_LONGER, "bpd_over_ofd", "at most", 1.0, "BPD is {:.2f} times OFD"),
    # FP's and UCL's lines, set by hand, cross at 82 degrees or more; their middles lie up to 8 % of OFD apart.
    (NOT_AT_RIGHT_ANGLES, "angle_deg", "at least", 80.0, "they cross at {:.0f}°"),
    (NO_COMMON_MIDDLE, "middle_percent", "at most", 10.0, "middles {:.0f} % of the longer line apart"),
    (LINE_TOO_SHORT, "shortest_percent", "at least", 5.0, "{:.1f} % of the image's shorter side"),
    (POINT_OUTSIDE, "outside_percent", "at most", 0.0, "by {:.1f} % of the shorter side"),
    (PIXEL_SIZE_DIFFERS, "pixel_size_percent", "at most", 1.0, "by {:.1f} % from the data set's"),
    # A skull is about 2 % of the head's length thick, and calipers are set on its inner or its outer side.
    (END_OFF_OUTLINE, "farthest_percent", "at most", 3.0, "the farthest by {:.1f} % of the head's length"),
)


def audit(
    table: pd.DataFrame, manifest: pd.DataFrame, ellipses: dict[str, ellipse.Ellipse]
) -> tuple[pd.DataFrame, list[Finding]]:
    """Whether landmarks can be what they are said to be, by themselves, by their images and by reference outlines.

    A fault of more than a tenth of the cases is one finding that stops the study; of fewer, a warning for each.

    Args:
        table: from `landmark_tables.read`.
        manifest: columns case, height, width, spacing_row_mm, spacing_col_mm (NaN where not known).
        ellipses: of the reference masks by case, from `ellipse.fit_head`; a case without one is judged by
            the rest.

    Returns:
        One row for each case of the manifest that has landmarks, in the manifest's order (others are left out by
        whoever learns from them), as `describe` gives it; and what is wrong.
    """
    held, known = set(table["case"]), set(manifest["case"])
    names = [name for name in manifest["case"] if name in held]
    lost = [name for name in manifest["case"] if name not in held]
    idle = [name for name in table["case"] if name not in known]
    findings = []
    if lost:
        severity = "warn" if names else "stop"
        found = f"{_share(lost, len(manifest))}: left out"
        findings.append(Finding(severity, NO_LANDMARKS, "landmarks", found, "a row for each image"))
    if idle:
        findings.append(Finding("note", ROWS_WITHOUT_IMAGE, "landmarks", _share(idle, len(table)), "not used"))
    figures = describe(table, manifest.set_index("case").loc[names], ellipses)
    return figures, findings + judge(figures)


def describe(table: pd.DataFrame, about: pd.DataFrame, ellipses: dict[str, ellipse.Ellipse]) -> pd.DataFrame:
    """The audit's figures, a row a case of `about` (the manifest by case).

    Columns: case; ofd_px, bpd_px, ofd_mm, bpd_mm, bpd_over_ofd; angle_deg at which the lines cross, 0 to 90;
    middle_percent between their middles, of the longer line; shortest_percent, the shorter line of the image's shorter
    side; outside_percent, how far a point lies beyond the frame, of the same; pixel_size_percent, by how much the
    table's differs from the manifest's; fit: whether OFD and BPD are the long and the short axis of the reference
    ellipse ("as named", "exchanged", "neither", "" without an ellipse); farthest_percent, from an end to the
    ellipse's outline, of its long axis; <point>_off_px and <point>_off_mm of each end.
    """
    points = as_arrays(table, about.index.tolist())  # (N, 4, 2)
    spacing = about[["spacing_row_mm", "spacing_col_mm"]].to_numpy(float)  # (N, 2)
    known = np.isfinite(spacing).all(axis=1)
    unit = np.where(known[:, None], spacing, 1.0)  # mm, or pixels where no pixel size is known
    side = about[["height", "width"]].to_numpy(float)  # (N, 2)
    shorter, pixels = side.min(axis=1), line_lengths(points)
    scaled = points * unit[:, None]
    beyond = np.maximum(-0.5 - points, points - (side - 0.5)[:, None]).max(axis=(1, 2))
    published = table.set_index("case")["px_to_mm"].reindex(about.index).to_numpy(float)
    columns = {
        "case": about.index,
        "ofd_px": pixels[:, 0],
        "bpd_px": pixels[:, 1],
        "ofd_mm": np.where(known, line_lengths(scaled)[:, 0], np.nan),
        "bpd_mm": np.where(known, line_lengths(scaled)[:, 1], np.nan),
        **_describe_lines(scaled),
        "shortest_percent": 100 * pixels.min(axis=1) / shorter,
        "outside_percent": 100 * np.maximum(beyond, 0) / shorter,
        "pixel_size_percent": 100 * np.abs(published / np.sqrt(spacing.prod(axis=1)) - 1),
    }
    axes = np.array([_axes(ellipses.get(name)) for name in about.index]).reshape(-1, 5)
    off = _to_outline(scaled, axes)  # (N, 4, 2)
    off_mm = np.where(known[:, None], np.linalg.norm(off, axis=2), np.nan)
    off_px = np.linalg.norm(off / unit[:, None], axis=2)
    columns |= {
        "fit": _fit(scaled, axes),
        "farthest_percent": 100 * np.linalg.norm(off, axis=2).max(axis=1) / axes[:, 2],
        **{f"{point}_off_px": off_px[:, place] for place, point in enumerate(POINTS)},
        **{f"{point}_off_mm": off_mm[:, place] for place, point in enumerate(POINTS)},
    }
    return pd.DataFrame(columns)


def _axes(ellipse: Ellipse | None) -> list[float]:
    """Centre, full axes and angle; NaN for no ellipse."""
    return [np.nan] * 5 if ellipse is None else [*ellipse.centre, ellipse.major, ellipse.minor, ellipse.angle_deg]


def _describe_lines(points: np.ndarray) -> dict[str, np.ndarray]:
    """How the two lines of each head lie to each other; NaN for one without length."""
    ofd, bpd = points[:, 1] - points[:, 0], points[:, 3] - points[:, 2]
    lengths = line_lengths(points)
    apart = np.linalg.norm(points[:, :2].mean(axis=1) - points[:, 2:].mean(axis=1), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.abs((ofd * bpd).sum(axis=1)) / lengths.prod(axis=1)
        return {
            "bpd_over_ofd": lengths[:, 1] / lengths[:, 0],
            "angle_deg": np.degrees(np.arccos(np.minimum(cosine, 1))),
            "middle_percent": 100 * apart / lengths.max(axis=1),
        }


def _directions(axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (row, col) of the long and the short axis: (N, 5) -> two (N, 2)."""
    cos, sin = np.cos(np.deg2rad(axes[:, 4])), np.sin(np.deg2rad(axes[:, 4]))
    return np.column_stack([sin, cos]), np.column_stack([cos, -sin])


def _fit(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Which axes of the reference ellipse the two lines are, in length and direction: (N,) of text."""
    major, minor = axes[:, 2], axes[:, 3]
    along, across = _directions(axes)
    lengths = line_lengths(points)  # (N, 2)

    def follows(line: int, direction: np.ndarray, length: np.ndarray) -> np.ndarray:
        step = points[:, 2 * line + 1] - points[:, 2 * line]
        cosine = np.abs((step * direction).sum(axis=1)) / np.maximum(lengths[:, line], 1e-9)
        straight = cosine >= np.cos(np.deg2rad(FIT_TURN_DEG))
        return (np.abs(lengths[:, line] / length - 1) <= FIT_LENGTH) & (straight | (minor > NEARLY_ROUND * major))

    named = follows(0, along, major) & follows(1, across, minor)
    exchanged = follows(1, along, major) & follows(0, across, minor)
    return np.select([np.isnan(major), named, exchanged], ["", *FITS[:2]], FITS[2])


def _to_outline(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Steps from points to the nearest place on their case's ellipse: (N, 4, 2), (N, 5) -> (N, 4, 2).

    In the ellipse's own quarter plane, a place on it is replaced by where the circle of its curvature, about its
    centre of curvature, meets the ray to the point; four rounds leave 0.00002 of the axis at most in heads.
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


def judge(figures: pd.DataFrame) -> list[Finding]:
    """What the figures of `describe` say against the landmarks."""
    findings = []
    for check, column, side, limit, wording in LIMITS:
        values = figures[column]
        faulty = values > limit if side == "at most" else values < limit
        said = [wording.format(value) for value in values]
        findings += _weigh(figures, check, faulty, said, f"{side} {limit:g}")
    limits = f"lengths within {FIT_LENGTH:.0%}, directions within {FIT_TURN_DEG:g}°"
    for check, value, text, expected in (
        (SWAPPED, FITS[1], "each line lies along the other's axis", "OFD along the long axis"),
        (ALONG_NO_AXIS, FITS[2], "they fit the ellipse under neither name", f"its axes: {limits}"),
    ):
        findings += _weigh(figures, check, figures["fit"] == value, [text] * len(figures), expected)
    far = figures[figures["outside_percent"] > FAR_OUTSIDE_PERCENT]
    expected = f"at most {FAR_OUTSIDE_PERCENT:g} % of the shorter side"
    return findings + [
        Finding("stop", POINT_FAR_OUTSIDE, case, f"by {percent:.1f} %", expected)
        for case, percent in zip(far["case"], far["outside_percent"])
    ]


def _weigh(figures: pd.DataFrame, check: Check, faulty: pd.Series, said: list[str], expected: str) -> list[Finding]:
    """One finding that stops the study if many cases are faulty, else a warning for each."""
    if faulty.mean() > MANY:
        found = f"{_share(figures['case'][faulty].tolist(), len(figures))}; {_overall(figures, check)}"
        return [Finding("stop", check, "landmarks", found, expected)]
    return [
        Finding("warn", check, case, text, expected)
        for case, text, is_so in zip(figures["case"], said, faulty)
        if is_so
    ]


def _overall(figures: pd.DataFrame, check: Check) -> str:
    """What a check says of all cases together."""
    about = {row.fact: row.value for row in summary(figures).itertuples()}
    fits = {fit: about.get(f"lines fit the ellipse: {fit}", 0) for fit in FITS}
    said = [
        f"median of all: {wording.format(figures[column].median())}"
        for each, column, *_, wording in LIMITS
        if each == check
    ]
    if check == BPD_LONGER and fits["exchanged"]:
        said.append(f"once exchanged, the lines of {fits['exchanged']:.0f} cases fit the reference ellipse")
    if check == END_OFF_OUTLINE:
        said.append(
            f"of all ends {about['ends more than 10 px off (%)']:.0f} % lie more than 10 px off, "
            f"half within {about['ends off the outline, median (px)']:.1f} px, "
            f"90 % within {about['ends off the outline, 90 % within (px)']:.1f} px"
        )
    return "; ".join(said) or ", ".join(f"{count:.0f} fit {fit}" for fit, count in fits.items())


def _share(names: list[str], count: int) -> str:
    """How many of a number of cases, and the first of them."""
    more = ", …" if len(names) > 5 else ""
    return f"{len(names)} of {count} cases ({len(names) / count:.0%}): {', '.join(names[:5])}{more}"


def summary(figures: pd.DataFrame) -> pd.DataFrame:
    """The audit in one row a fact: fact, value; facts without a value are left out."""
    px, mm = (figures[[f"{point}_off_{unit}" for point in POINTS]].to_numpy().ravel() for unit in ("px", "mm"))
    px, mm = px[np.isfinite(px)], mm[np.isfinite(mm)]
    facts: dict[str, float] = {
        "cases with landmarks": len(figures),
        "BPD longer than OFD": int((figures["bpd_over_ofd"] > 1).sum()),
        "BPD/OFD, median": figures["bpd_over_ofd"].median(),
        "least angle between the lines (°)": figures["angle_deg"].min(),
        "cases with a point outside the image": int((figures["outside_percent"] > 0).sum()),
    }
    if px.size:
        facts |= {f"lines fit the ellipse: {fit}": int((figures["fit"] == fit).sum()) for fit in FITS}
        facts["ends more than 10 px off (%)"] = 100 * (px > 10).mean()
    for off, unit in ((px, "px"), (mm, "mm")):
        if off.size:
            facts[f"ends off the outline, median ({unit})"] = np.median(off)
            facts[f"ends off the outline, 90 % within ({unit})"] = np.quantile(off, 0.9)
    rows = pd.DataFrame({"fact": list(facts), "value": list(facts.values())})
    return rows[rows["value"].notna()].reset_index(drop=True)
