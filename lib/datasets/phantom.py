"""Fetal heads with exactly known truth, in the layout of Alzubaidi et al. 2023 (one group, Trans-thalamic).

Images, masks of the same names and one CSV of pixel sizes as published; beside them, as no published data set has,
`truth.csv` with the quantities from the continuous ellipse. `phantom.json` says what wrote the folder.

Source of the layout: doi:10.1016/j.dib.2023.109708; of the head sizes: `lib.growth`.
"""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from filelock import FileLock
from scipy import special

from lib import files, growth, provenance, ultrasound
from lib.cases import Case, Finding, decode_palette, read_pixels

GROUP = Path("Trans-thalamic")
IMAGES = GROUP / "Trans-thalamic"
SEGMENTATION = GROUP / "Trans-thalamic-Segmentation"
MASKS = SEGMENTATION / "SegmentationClass"
TABLE = GROUP / "Trans-Thalamic-Pixel-Size.csv"
COLUMNS = ["Label", "Pixel  in mm"]  # two blanks, as published
TRUTH = "truth.csv"
TRUTH_COLUMNS = ["case", "subject", "ga_weeks", "bpd_mm", "ofd_mm", "hc_mm", "csp_mm2", "lv_mm2"]
RECORD = "phantom.json"
CODE = ("lib.datasets.phantom", "lib.growth", "lib.ultrasound")
COLOURS = {(255, 0, 0): 1, (0, 255, 0): 2, (0, 0, 255): 3}
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nBrain:255,0,0::\nCSP:0,255,0::\nLV:0,0,255::\n"
NAME = re.compile(r"Patient(\d{5})_Plane3_(\d+)_of_(\d+)")
SPACING_RANGE_MM = (0.02, 1.0)
HC_BINS_MM = (180, 260)

SHAPE = (270, 400)
DEMO_SUBJECTS, DEMO_SEED = 150, 12
FRAME_SHARES = (0.55, 0.30, 0.15)  # of subjects with 1, 2, 3 frames: 240 images of 150 subjects


def write(folder: Path, subjects: int, seed: int) -> None:
    """Writes a phantom data set, whole or not at all; one that the phantom wrote before is replaced.

    Args:
        folder: `truth.csv`, `phantom.json` and `Trans-thalamic/` come to lie in it.
        subjects: number of examinations, 1 to 99999, of 1 to 3 images each.
        seed: every draw is a function of (seed, subject, frame).

    Raises:
        ValueError: no such number of subjects, or the folder holds something that the phantom did not write.
    """
    if not 1 <= subjects <= 99999:
        raise ValueError(f"subjects = {subjects}   not allowed; 1 to 99999")
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    working, replaced = (folder.with_name(f".{what}-{folder.name}") for what in ("writing", "replaced"))
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # two studies may want the same phantom
        shutil.rmtree(working, ignore_errors=True)  # left by a process that was killed
        try:
            working.mkdir()
            _write_into(working, subjects, seed)
            if folder.is_dir():
                folder.rename(replaced)
            working.rename(folder)
        finally:
            shutil.rmtree(working, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)


def write_demo(folder: Path) -> None:
    """Writes the phantom of the demo study, unless today's code already has.

    A folder that the phantom wrote with other code is written again with its own number of subjects and seed.

    Raises:
        ValueError: the folder holds something that the phantom did not write.
    """
    record = files.read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    if record.get("code") != _code():
        write(folder, record.get("subjects", DEMO_SUBJECTS), record.get("seed", DEMO_SEED))


def draw_frame(seed: int, subject: int, frame: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """One image with its reference.

    Args:
        seed: of the data set.
        subject: number of the examination, from 1.
        frame: number of the image in it, from 1.

    Returns:
        Image and mask, (H, W) uint8, and ga_weeks, bpd_mm, ofd_mm, hc_mm, csp_mm2, lv_mm2 (0 if absent), spacing_mm.
    """
    anatomy = np.random.default_rng([seed, subject, 0])  # frame 0: what all frames of a subject share
    ga = float(anatomy.uniform(15, 36))
    (ofd, bpd), texture = _draw_axes(ga, anatomy), _draw_texture(ga, anatomy)
    bend = float(anatomy.normal(0, 0.01) * bpd)
    rng = np.random.default_rng([seed, subject, frame])
    spacing, centre, angle = _draw_place(ofd, bpd, rng)
    brain_db = float(rng.uniform(-50, -40))
    head = ultrasound.Head(
        axes_mm=(ofd, bpd),
        centre_mm=centre,
        angle_deg=angle,
        forehead_left=bool(rng.random() < 0.5),
        skull_mm=float(0.9 + 0.02 * ofd + rng.uniform(0, 0.5)),
        skull_db=float(rng.uniform(-6, 3)),
        brain_db=brain_db,
        folding=(ga - 15) / 21,
        midline_bend_mm=bend,
        csp=_draw_csp(ofd, bend, brain_db, rng),
        ventricles=_draw_lv(ofd, bpd, brain_db, rng),
        texture=texture,
    )
    scan = _draw_scan(head, spacing, rng)
    image = ultrasound.render(scan, ultrasound.scene(scan, head, rng), rng)
    mask = ultrasound.reference_mask(head, SHAPE, spacing)
    area = np.bincount(mask.ravel(), minlength=4) * spacing**2
    hc = 2 * ofd * special.ellipe(1 - (bpd / ofd) ** 2)
    truth = {"ga_weeks": ga, "bpd_mm": bpd, "ofd_mm": ofd, "hc_mm": hc, "csp_mm2": area[2], "lv_mm2": area[3]}
    truth = {name: round(float(value), 6) for name, value in truth.items()}
    return _add_marks(image, rng), mask, truth | {"spacing_mm": spacing}


def _draw_axes(ga_weeks: float, rng: np.random.Generator) -> tuple[float, float]:
    """OFD and BPD in mm, correlated and within 2 SD."""
    common, own = rng.normal(size=2)
    z_ofd, z_bpd = np.clip([common, 0.6 * common + 0.8 * own], -2, 2)
    ofd = growth.mean_mm("ofd", ga_weeks) + z_ofd * growth.sd_mm("ofd", ga_weeks)
    bpd = growth.mean_mm("bpd", ga_weeks) + z_bpd * growth.sd_mm("bpd", ga_weeks)
    return round(float(ofd), 4), round(float(min(bpd, 0.92 * ofd)), 4)


def _draw_texture(ga_weeks: float, rng: np.random.Generator) -> np.ndarray:
    """Random fields of one head: regions, sulci (closer with age), gaps, patches."""
    cells = ((16, 16), (round(14 - ga_weeks / 5), 16), (12, 12), (5, 7))
    return np.dstack([ultrasound.smooth_noise(rng, (96, 96), cell) for cell in cells])


def _draw_place(ofd: float, bpd: float, rng: np.random.Generator) -> tuple[float, tuple[float, float], float]:
    """Pixel size in mm, centre (row, col) in mm, angle in degrees; the head lies inside the frame.

    The head's length fills a half to three quarters of the frame's width, less where it would not fit.
    """
    angle = float(np.clip(rng.normal(0, 11), -25, 25))
    turn = np.deg2rad(angle)
    high = np.hypot(ofd * np.sin(turn), bpd * np.cos(turn))
    wide = np.hypot(ofd * np.cos(turn), bpd * np.sin(turn))
    spacing = round(float(max(ofd / rng.uniform(190, 300), high / (SHAPE[0] - 8))), 6)
    slack = (np.array(SHAPE) - np.array([high, wide]) / spacing) / 2 - 3
    place = (np.array(SHAPE) - 1) / 2 + slack * np.clip(rng.normal([0.15, 0], 0.4, 2), -1, 1)
    return spacing, (float(place[0] * spacing), float(place[1] * spacing)), angle


def _draw_csp(ofd: float, bend: float, brain_db: float, rng: np.random.Generator) -> ultrasound.Chamber | None:
    """The cavum in the front third, on the midline; a quarter of planes miss it."""
    absent = rng.random() < 0.25
    u = float(rng.uniform(0.20, 0.26) * ofd)
    chamber = ultrasound.Chamber(
        centre_mm=(u, bend * (1 - (2 * u / ofd) ** 2)),
        half_mm=(float(rng.uniform(0.085, 0.115) * ofd), float(rng.uniform(0.042, 0.056) * ofd)),
        tilt_deg=float(rng.normal(0, 1.5)),
        bend=0.0,
        taper=float(rng.uniform(-0.15, 0.25)),
        boxy=True,
        wall_db=float(rng.uniform(-13, -4)),
        fluid_db=float(brain_db - rng.uniform(12, 18)),
        plexus=0.0,
    )
    return None if absent else chamber


def _draw_lv(ofd: float, bpd: float, brain_db: float, rng: np.random.Generator) -> tuple[ultrasound.Chamber, ...]:
    """The far ventricle, in some planes also the near one, fainter; a third of planes show none."""
    shown = (2 if rng.random() < 0.3 else 1) if rng.random() >= 0.35 else 0
    u, v = float(rng.uniform(-0.17, -0.11) * ofd), float(rng.uniform(0.19, 0.225) * bpd)
    half = (float(rng.uniform(0.13, 0.17) * ofd), float(rng.uniform(0.047, 0.062) * ofd))
    tilt, bend, taper = (float(rng.uniform(*ends)) for ends in ((3, 9), (0.1, 0.5), (-0.4, -0.1)))
    wall, fluid = float(rng.uniform(-22, -10)), float(brain_db - rng.uniform(10, 17))
    plexus = float(rng.uniform(0.4, 0.65))
    return tuple(
        ultrasound.Chamber(
            centre_mm=(u, side * v),
            half_mm=half,
            tilt_deg=-side * tilt,
            bend=side * bend,
            taper=taper,
            boxy=False,
            wall_db=wall if side > 0 else wall - 4,
            fluid_db=fluid if side > 0 else fluid + 3,
            plexus=plexus,
        )
        for side in (1, -1)[:shown]
    )


def _draw_scan(head: ultrasound.Head, spacing: float, rng: np.random.Generator) -> ultrasound.Scan:
    """A curved array above the head, wide enough to see it (in one frame of ten but for an edge), and its settings."""
    outline, turn = np.linspace(0, 2 * np.pi, 72), np.deg2rad(head.angle_deg)
    along, across = head.axes_mm[0] / 2 * np.cos(outline), head.axes_mm[1] / 2 * np.sin(outline)
    rows = head.centre_mm[0] + along * np.sin(turn) + across * np.cos(turn)
    cols = head.centre_mm[1] + along * np.cos(turn) - across * np.sin(turn)
    radius = float(rng.uniform(42, 62))
    surface = min(14 * spacing, rows.min() - 2.0) - float(rng.choice([0.0, 1.0]) * rng.exponential(12.0))
    apex = (float(surface - radius), float(((SHAPE[1] - 1) / 2 + rng.normal(0, 14)) * spacing))
    needed = np.rad2deg(np.abs(np.arctan2(cols - apex[1], rows - apex[0])).max())
    margin = -rng.uniform(1, 2.5) if rng.random() < 0.1 else rng.uniform(0.5, 4)
    far = np.hypot(rows - apex[0], cols - apex[1]).max()
    corner = np.hypot(SHAPE[0] * spacing - apex[0], SHAPE[1] / 2 * spacing)
    fine = float(np.clip(head.axes_mm[0] / 70, 0.6, 1))  # small heads are scanned at a higher frequency
    return ultrasound.Scan(
        shape=SHAPE,
        spacing_mm=spacing,
        apex_mm=apex,
        range_mm=(radius, float(max(far + rng.uniform(1, 4), min(corner, rng.uniform(0.88, 1.1) * corner)))),
        half_angle_deg=float(max(rng.uniform(26, 38), needed + margin)),
        axial_mm=float(rng.uniform(0.45, 0.75)) * fine,
        lateral_mm=float(rng.uniform(0.9, 1.7)) * fine,
        focus_mm=float(max(10.0, (head.centre_mm[0] - surface) * rng.uniform(0.7, 1.3))),
        dynamic_range_db=float(rng.uniform(52, 68)),
        gain_db=float(rng.uniform(-6, 4)),
        gain_slope_db_mm=float(rng.uniform(-0.08, 0.04)),
        noise_db=float(rng.uniform(-78, -64)),
        noise_slope_db_mm=float(rng.uniform(0.05, 0.16)),
        grey_exponent=float(rng.uniform(1.0, 1.5)),
        smoothing=float(rng.uniform(0.6, 1.1)),
    )


def _add_marks(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What machines draw over frames: grey bar, text, a blanked name, and calipers that need not lie on the head."""
    marked = image.copy()
    if rng.random() < 0.6:
        marked[12:92, 2:6] = np.linspace(255, 0, 80).astype(np.uint8)[:, None]
    if rng.random() < 0.4:
        text = f"{rng.integers(10, 40)}Hz  {rng.uniform(3, 6):.1f}MHz"
        cv2.putText(marked, text, (300, 262), cv2.FONT_HERSHEY_PLAIN, 0.7, 180, 1, cv2.LINE_AA)
    if rng.random() < 0.2:
        for row, col in zip(rng.integers(30, 240, 2).tolist(), rng.integers(40, 360, 2).tolist()):
            cv2.drawMarker(marked, (col, row), 230, cv2.MARKER_CROSS, 9, 1)
    if rng.random() < 0.3:
        row, col = int(rng.integers(215, 245)), int(rng.integers(310, 345))
        marked[row : row + 25, col : col + 60] = 0
    return marked


def find_cases(folder: Path) -> tuple[list[Case], list[Finding]]:
    """Cases in order of patient and frame; the subject is the patient's number.

    Returns:
        Cases, and what is wrong with the others.

    Raises:
        ValueError: the folder is missing, empty or not as `write` leaves it.
    """
    images, masks = _stems(folder, IMAGES), _stems(folder, MASKS)
    truth = _read_truth(folder)
    spacings, findings = _read_spacings(folder)
    rows = set(spacings) | {finding.case for finding in findings}
    for name in sorted(set(images) | set(masks) | rows, key=_place):
        fault = _fault(name, images, masks, truth, rows)
        findings += [fault] if fault else []
    stopped = {finding.case for finding in findings if finding.severity == "stop"}
    found = [
        Case(
            name=name,
            subject=NAME.fullmatch(name)[1],  # type: ignore[index]
            image=images[name],
            mask=masks[name],
            spacing_mm=(spacings[name], spacings[name]) if name in spacings else None,
            stratum=_stratum(truth[name]),
            reference_mm={quantity: truth[name][f"{quantity}_mm"] for quantity in ("bpd", "ofd", "hc")},
        )
        for name in sorted(set(images) - stopped, key=_place)
    ]
    return found, findings


def read_mask(path: Path) -> np.ndarray:
    """Class indices (H, W) uint8 of a colour mask: 0 background, 1 parenchyma, 2 CSP, 3 ventricle.

    Raises:
        ValueError: unreadable, no colours, or a colour without a class; the message names the file.
    """
    pixels = read_pixels(path)
    try:
        return decode_palette(pixels, COLOURS)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _write_into(folder: Path, subjects: int, seed: int) -> None:
    """Writes everything, `phantom.json` last."""
    (folder / IMAGES).mkdir(parents=True)
    (folder / MASKS).mkdir(parents=True)
    palette = np.zeros((4, 3), np.uint8)
    for (red, green, blue), index in COLOURS.items():
        palette[index] = blue, green, red  # OpenCV's order
    rows = []
    for subject in range(1, subjects + 1):
        frames = 1 + int(np.random.default_rng([seed, subject, 9]).choice(3, p=FRAME_SHARES))  # no frame has number 9
        for frame in range(1, frames + 1):
            image, mask, truth = draw_frame(seed, subject, frame)
            name = f"Patient{subject:05d}_Plane3_{frame}_of_{frames}"
            for part, pixels in ((IMAGES, image), (MASKS, palette[mask])):
                cv2.imencode(".png", pixels)[1].tofile(folder / part / f"{name}.png")
            rows.append({"case": name, "subject": f"{subject:05d}", **truth})
    table = pd.DataFrame(rows)
    sizes = pd.DataFrame({COLUMNS[0]: table["case"] + ".png", COLUMNS[1]: table["spacing_mm"]})
    files.write_bytes(folder / TABLE, sizes.to_csv(index=False, lineterminator="\n").encode("utf-8-sig"))
    files.write_text(folder / SEGMENTATION / "labelmap.txt", LABELMAP)
    files.write_csv(folder / TRUTH, table[TRUTH_COLUMNS])
    files.write_json(folder / RECORD, {"subjects": subjects, "seed": seed, "code": _code()})


def _code() -> dict[str, str]:
    """Hash of each module that decides what the images look like."""
    return {module: provenance.module_hash(module) for module in CODE}


def _refuse_foreign(folder: Path) -> None:
    """Stops before something is deleted that the phantom did not write."""
    if folder.is_symlink():
        raise ValueError(f"{folder}: is a link; the phantom replaces only its own folders, so remove the link first")
    if folder.exists() and not (folder / RECORD).is_file():
        raise ValueError(f"{folder}: found without {RECORD}, so the phantom did not write it; move it away")


def _stems(folder: Path, part: Path) -> dict[str, Path]:
    """Every PNG in a part of the layout by its stem."""
    found = {path.stem: path for path in (folder / part).glob("*.png")}
    if not found:
        held = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else "no such folder"
        example = (part / "Patient00001_Plane3_1_of_1.png").as_posix()
        raise ValueError(f"{folder}: found {held}; expected PNG files such as {example}")
    return found


def _fault(
    name: str, images: dict[str, Path], masks: dict[str, Path], truth: dict[str, dict[str, float]], rows: set[str]
) -> Finding | None:
    """What is missing of an image, a mask or a row of pixel sizes; None for a whole case."""
    if name not in images and name not in masks:
        return Finding("warn", "row without a file", name, f"{TABLE.name} names {name}.png", "an image of that name")
    if name not in masks:
        return Finding("stop", "missing mask", name, "no file", f"{MASKS.as_posix()}/{name}.png")
    if name not in images:
        return Finding("stop", "missing image", name, "no file", f"{IMAGES.as_posix()}/{name}.png")
    if not NAME.fullmatch(name):
        return Finding("stop", "unreadable name", name, f"{name}.png", "PatientNNNNN_Plane3_1_of_1.png")
    if name not in truth:
        return Finding("stop", "missing truth", name, f"no row in {TRUTH}", "one row an image")
    if name not in rows:
        return Finding("warn", "missing pixel size", name, f"no row in {TABLE.name}", "a row; no millimetres without")
    return None


def _place(name: str) -> tuple[int, int, str]:
    """Natural order; names of another form come last."""
    match = NAME.fullmatch(name)
    return (int(match[1]), int(match[2]), name) if match else (10**6, 0, name)


def _read_truth(folder: Path) -> dict[str, dict[str, float]]:
    """Rows of `truth.csv` by case."""
    table = files.read_csv(folder / TRUTH, TRUTH_COLUMNS).set_index("case")
    twice = table.index[table.index.duplicated()].tolist()
    if twice:
        raise ValueError(f"{folder / TRUTH}: two rows for {twice[:5]}; expected one row an image")
    return table.drop(columns="subject").to_dict("index")


def _stratum(truth: dict[str, float]) -> str:
    """Coarse size and the structures shown, such as "hc1 csp lv"."""
    shown = [name for name in ("csp", "lv") if truth[f"{name}_mm2"] > 0]
    return " ".join([f"hc{np.searchsorted(HC_BINS_MM, truth['hc_mm'])}", *shown])


def _read_spacings(folder: Path) -> tuple[dict[str, float], list[Finding]]:
    """Pixel size in mm for each image name, and what is wrong with the rows."""
    path = folder / TABLE
    if not path.is_file():
        raise ValueError(f"{path}: missing; expected a CSV with columns {COLUMNS}")
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    if list(table.columns) != COLUMNS:
        raise ValueError(f"{path}: columns {list(table.columns)}; expected {COLUMNS}")
    table["case"] = [Path(label).stem for label in table[COLUMNS[0]]]
    table["mm"] = pd.to_numeric(table[COLUMNS[1]], errors="coerce")
    findings = []
    for row, name in table.loc[table["case"].duplicated(), "case"].items():
        where = f"{path.name}, row {row + 2}"
        findings.append(Finding("stop", "two rows for one image", name, where, "one row an image"))
    for row, (name, text) in table.loc[~table["mm"].between(*SPACING_RANGE_MM), ["case", COLUMNS[1]]].iterrows():
        found = f'{path.name}, row {row + 2}, column "{COLUMNS[1]}": "{text}"'
        expected = "mm, {:g} to {:g}".format(*SPACING_RANGE_MM) + " (a decimal point?)" * ("," in text)
        findings.append(Finding("stop", "unreadable number", name, found, expected))
    faulty = {finding.case for finding in findings}
    return {name: float(mm) for name, mm in zip(table["case"], table["mm"]) if name not in faulty}, findings
