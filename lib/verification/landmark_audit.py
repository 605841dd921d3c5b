"""Whether published landmarks can be what they are said to be: audited before anything learns from them."""

import numpy as np
import pandas as pd

from lib.data.cases import PIXEL_SIZE, has_pixel_size
from lib.data.findings import Check, Finding, fact_table
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
WHICH_SIZE = "find out which is right; millimetres are computed with that of the data set"
PIXEL_SIZE_DIFFERS = Check("pixel size differs", WHICH_SIZE)
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
    table: pd.DataFrame, manifest: pd.DataFrame, ellipses: dict[str, Ellipse]
) -> tuple[pd.DataFrame, list[Finding]]:
    """Whether landmarks can be what they are said to be, by themselves, by their images and by reference outlines.

    Gives `describe` for the cases of the manifest that have landmarks, in its order, and what is wrong. A fault of more
    than a tenth of the cases is one finding that stops the study; of fewer, a warning for each. The table is that of
    `landmark_tables.read`. Ellipses are those of the reference masks by case, in mm where the pixel size is known; a
    case without one is judged by the rest.
    """
    has_points, has_image = manifest["case"].isin(table["case"]), table["case"].isin(manifest["case"])
    findings = []
    if not has_points.all():
        severity = "warn" if has_points.any() else "stop"
        found = f"{_share(manifest['case'], ~has_points)}: left out"
        findings.append(Finding(severity, NO_LANDMARKS, "landmarks", found, "a row for each image"))
    if not has_image.all():
        found = _share(table["case"], ~has_image)
        findings.append(Finding("note", ROWS_WITHOUT_IMAGE, "landmarks", found, "not used"))
    figures = describe(table, manifest[has_points].set_index("case"), ellipses)
    return figures, findings + judge(figures)


def describe(table: pd.DataFrame, about: pd.DataFrame, ellipses: dict[str, Ellipse]) -> pd.DataFrame:
    """The audit's figures, one row per case of `about` (the manifest by case).

    Columns: case; ofd_px, bpd_px, ofd_mm, bpd_mm, bpd_over_ofd; angle_deg at which the lines cross, 0 to 90;
    middle_percent between their middles, of the longer line; shortest_percent, the shorter line of the image's shorter
    side; outside_percent, how far a point lies beyond the frame, of the same; pixel_size_percent, by how much the
    table's differs from the manifest's; fit: whether OFD and BPD are the long and the short axis of the reference
    ellipse ("as named", "exchanged", "neither", "" without an ellipse); farthest_percent, from an end to the
    ellipse's outline, of its long axis; <point>_off_px and <point>_off_mm of each end.
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
    """Lengths of steps (..., 2)."""
    return np.linalg.norm(steps, axis=-1)


def _describe_lines(points: np.ndarray) -> dict[str, np.ndarray]:
    """How the two lines of each head lie to each other; NaN for one without length."""
    ofd, bpd = points[:, 1] - points[:, 0], points[:, 3] - points[:, 2]
    lengths = line_lengths(points)
    between = _norm(points[:, :2].mean(axis=1) - points[:, 2:].mean(axis=1))  # the middles
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
    """Which axes of the reference ellipse the two lines are, in length and direction: (N,) of text."""
    steps, lengths = points[:, 1::2] - points[:, ::2], line_lengths(points)  # (N, 2, 2), (N, 2): OFD, BPD
    directions, sizes = np.stack(_directions(axes), axis=1), axes[:, 2:4]  # (N, 2, 2), (N, 2): long, short axis
    nearly_round = sizes[:, 1:] > NEARLY_ROUND * sizes[:, :1]

    def follow(order: slice) -> np.ndarray:
        """Whether both lines follow the axes in an order."""
        cosine = np.abs((steps * directions[:, order]).sum(axis=2)) / np.maximum(lengths, 1e-9)
        straight = (cosine >= np.cos(np.deg2rad(FIT_TURN_DEG))) | nearly_round
        return (straight & (np.abs(lengths / sizes[:, order] - 1) <= FIT_LENGTH)).all(axis=1)

    fits = [np.isnan(axes[:, 2]), follow(slice(None)), follow(slice(None, None, -1))]
    return np.select(fits, ["", *FITS[:2]], FITS[2])


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
        findings += _weigh(figures, check, faulty, [wording.format(value) for value in values], f"{side} {limit:g}")
    limits = f"lengths within {FIT_LENGTH:.0%}, directions within {FIT_TURN_DEG:g}°"
    for check, fit, found, expected in (
        (SWAPPED, FITS[1], "each line lies along the other's axis", "OFD along the long axis"),
        (ALONG_NO_AXIS, FITS[2], "they fit the ellipse under neither name", f"its axes: {limits}"),
    ):
        findings += _weigh(figures, check, figures["fit"] == fit, [found] * len(figures), expected)
    far = figures[figures["outside_percent"] > FAR_OUTSIDE_PERCENT]
    expected = f"at most {FAR_OUTSIDE_PERCENT:g} % of the shorter side"
    return findings + [
        Finding("stop", POINT_FAR_OUTSIDE, case, f"by {percent:.1f} %", expected)
        for case, percent in zip(far["case"], far["outside_percent"])
    ]


def _weigh(figures: pd.DataFrame, check: Check, faulty: pd.Series, texts: list[str], expected: str) -> list[Finding]:
    """One finding that stops the study if many cases are faulty, else a warning for each."""
    if faulty.mean() > MANY:
        found = f"{_share(figures['case'], faulty)}; {_overall(figures, check)}"
        return [Finding("stop", check, "landmarks", found, expected)]
    rows = zip(figures["case"], texts, faulty)
    return [Finding("warn", check, case, text, expected) for case, text, is_faulty in rows if is_faulty]


def _overall(figures: pd.DataFrame, check: Check) -> str:
    """What a check says of all cases together."""
    facts = dict(summary(figures).itertuples(index=False))
    fits = {fit: facts.get(f"lines fit the ellipse: {fit}", 0) for fit in FITS}
    texts = [f"median of all: {text.format(figures[column].median())}" for c, column, *_, text in LIMITS if c == check]
    if check == BPD_LONGER and fits["exchanged"]:
        texts.append(f"once exchanged, the lines of {fits['exchanged']:.0f} cases fit the reference ellipse")
    if check == END_OFF_OUTLINE:
        texts.append(
            f"of all ends {facts['ends more than 10 px off (%)']:.0f} % lie more than 10 px off, "
            f"half within {facts['ends off the outline, median (px)']:.1f} px, "
            f"90 % within {facts['ends off the outline, 90 % within (px)']:.1f} px"
        )
    return "; ".join(texts) or ", ".join(f"{count:.0f} fit {fit}" for fit, count in fits.items())


def _share(cases: pd.Series, among: pd.Series) -> str:
    """How many of some cases are among them, and the first of these."""
    names = cases[among].tolist()
    more = ", …" if len(names) > 5 else ""
    return f"{len(names)} of {len(cases)} cases ({len(names) / len(cases):.0%}): {', '.join(names[:5])}{more}"


def summary(figures: pd.DataFrame) -> pd.DataFrame:
    """The audit in one row per fact: fact, value."""
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
    return fact_table(facts)
