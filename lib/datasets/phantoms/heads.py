"""Fetal head phantoms of exactly known size (by age, from `imaging.growth`), with settings drawn from a seed."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy import special

from lib.datasets.phantoms import ultrasound
from lib.datasets.phantoms.ultrasound import Chamber, Head, Scan
from lib.imaging import growth

SHAPE = (270, 400)


@dataclass(frozen=True)
class Frame:
    """One image with its reference."""

    image: np.ndarray  # (H, W) uint8
    mask: np.ndarray  # (H, W) uint8: 0 outside, 1 inside the skull's outer border, 2 CSP, 3 ventricle
    head: Head  # in mm from the centre of the first pixel
    spacing_mm: tuple[float, float]  # (row, col)
    ga_weeks: float  # gestational age

    @property
    def truth(self) -> dict[str, float]:
        """ga_weeks, bpd_mm, ofd_mm, hc_mm of the exact ellipse; csp_mm2, lv_mm2 of the mask (0 if absent)."""
        ofd, bpd = self.head.axes_mm
        hc = 2 * ofd * special.ellipe(1 - (bpd / ofd) ** 2)
        area = np.bincount(self.mask.ravel(), minlength=4) * (self.spacing_mm[0] * self.spacing_mm[1])
        exact = {"ga_weeks": self.ga_weeks, "bpd_mm": bpd, "ofd_mm": ofd, "hc_mm": hc}
        return {name: round(float(v), 6) for name, v in (exact | {"csp_mm2": area[2], "lv_mm2": area[3]}).items()}

    @property
    def structures(self) -> list[str]:
        """Structures present in the mask: "csp", "lv"."""
        return [name for name, index in (("csp", 2), ("lv", 3)) if (self.mask == index).any()]


def draw_frame(seed: int, subject: int, frame: int, shares: tuple[float, float]) -> Frame:
    """One image of `SHAPE` pixels with its reference; all frames of a subject show one head, both numbered from 1.

    `shares`, 0 to 1, of images with a cavum septi pellucidi and a lateral ventricle; nothing else depends on them.
    """
    anatomy = np.random.default_rng([seed, subject, 0])  # frame 0: common to all frames of a subject
    ga = float(anatomy.uniform(15, 36))
    (ofd, bpd), texture = _draw_axes(ga, anatomy), _draw_texture(ga, anatomy)
    bend = float(anatomy.normal(0, 0.01) * bpd)
    rng = np.random.default_rng([seed, subject, frame])
    spacing, centre, angle = _draw_position(ofd, bpd, rng)
    brain_db = float(rng.uniform(-50, -40))
    head = Head(
        axes_mm=(ofd, bpd),
        centre_mm=centre,
        angle_deg=angle,
        forehead_left=bool(rng.random() < 0.5),
        skull_mm=float(0.9 + 0.02 * ofd + rng.uniform(0, 0.5)),
        skull_db=float(rng.uniform(-6, 3)),
        brain_db=brain_db,
        folding=(ga - 15) / 21,
        midline_bend_mm=bend,
        csp=_draw_csp(shares[0], ofd, bend, brain_db, rng),
        ventricles=_draw_lv(shares[1], ofd, bpd, brain_db, rng),
        texture=texture,
    )
    scan = _draw_scan(head, spacing, rng)
    image = ultrasound.render(scan, ultrasound.scene(scan, head, rng), rng)
    mask = ultrasound.reference_mask(head, SHAPE, (spacing, spacing))
    return Frame(_add_marks(image, rng), mask, head, (spacing, spacing), ga)


def resize(frame: Frame, shape: tuple[int, int]) -> Frame:
    """The same view in `shape` (rows, cols) pixels, which need not be square; the mask is exact at their centres."""
    row_mm, col_mm = (mm * old / new for mm, old, new in zip(frame.spacing_mm, frame.image.shape, shape))
    spacing = (row_mm, col_mm)
    centre = [old_mm + (old - new) / 2 for old_mm, old, new in zip(frame.head.centre_mm, frame.spacing_mm, spacing)]
    head = replace(frame.head, centre_mm=(centre[0], centre[1]))  # from the centre of the new first pixel
    image = cv2.resize(frame.image, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return Frame(image, ultrasound.reference_mask(head, shape, spacing), head, spacing, frame.ga_weeks)


def outline(frame: Frame, thickness_px: float) -> np.ndarray:
    """The skull's outer border as a line of some thickness around the exact ellipse: (H, W) bool, square pixels."""
    bare = replace(frame.head, csp=None, ventricles=())
    ofd, bpd = frame.head.axes_mm
    thickness = thickness_px * frame.spacing_mm[0]
    wide, narrow = (
        ultrasound.reference_mask(replace(bare, axes_mm=axes), frame.image.shape, frame.spacing_mm)
        for axes in ((ofd + thickness, bpd + thickness), (ofd - thickness, bpd - thickness))
    )
    return wide > narrow


def _draw_axes(ga_weeks: float, rng: np.random.Generator) -> tuple[float, float]:
    """OFD and BPD in mm, correlated and within 2 SD of the mean."""
    common, own = rng.normal(size=2)
    z_ofd, z_bpd = np.clip([common, 0.6 * common + 0.8 * own], -2, 2)
    ofd_mean, ofd_sd = growth.mean_and_sd_mm("ofd", ga_weeks)
    bpd_mean, bpd_sd = growth.mean_and_sd_mm("bpd", ga_weeks)
    ofd, bpd = ofd_mean + z_ofd * ofd_sd, bpd_mean + z_bpd * bpd_sd
    return round(float(ofd), 4), round(float(min(bpd, 0.92 * ofd)), 4)


def _draw_texture(ga_weeks: float, rng: np.random.Generator) -> np.ndarray:
    """Random fields of one head: regions, sulci (denser with age), gaps, patches."""
    cells = ((16, 16), (round(14 - ga_weeks / 5), 16), (12, 12), (5, 7))
    return np.dstack([ultrasound.smooth_noise(rng, (96, 96), cell) for cell in cells])


def _draw_position(ofd: float, bpd: float, rng: np.random.Generator) -> tuple[float, tuple[float, float], float]:
    """Pixel size in mm, centre (row, col) in mm and angle in degrees of a head that fits into the frame."""
    angle = float(np.clip(rng.normal(0, 11), -25, 25))
    sin, cos = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    high, wide = np.hypot(ofd * sin, bpd * cos), np.hypot(ofd * cos, bpd * sin)
    spacing = round(float(max(ofd / rng.uniform(190, 300), high / (SHAPE[0] - 8))), 6)
    slack = (np.array(SHAPE) - np.array([high, wide]) / spacing) / 2 - 3
    centre = (np.array(SHAPE) - 1) / 2 + slack * np.clip(rng.normal([0.15, 0], 0.4, 2), -1, 1)
    return spacing, (float(centre[0] * spacing), float(centre[1] * spacing)), angle


def _draw_csp(share: float, ofd: float, bend: float, brain_db: float, rng: np.random.Generator) -> Chamber | None:
    """The cavum on the midline of the front third, in a share of images."""
    absent = rng.random() < 1 - share
    u = float(rng.uniform(0.20, 0.26) * ofd)
    chamber = Chamber(
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


def _draw_lv(share: float, ofd: float, bpd: float, brain_db: float, rng: np.random.Generator) -> tuple[Chamber, ...]:
    """The far ventricle in a share of images, in some of them with the near one, which is fainter."""
    count = (2 if rng.random() < 0.3 else 1) if rng.random() >= 1 - share else 0
    u, v = float(rng.uniform(-0.17, -0.11) * ofd), float(rng.uniform(0.19, 0.225) * bpd)
    half = (float(rng.uniform(0.13, 0.17) * ofd), float(rng.uniform(0.047, 0.062) * ofd))
    tilt, bend, taper = (float(rng.uniform(*limits)) for limits in ((3, 9), (0.1, 0.5), (-0.4, -0.1)))
    wall, fluid = float(rng.uniform(-22, -10)), float(brain_db - rng.uniform(10, 17))
    plexus = float(rng.uniform(0.4, 0.65))
    return tuple(
        Chamber(
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
        for side in (1, -1)[:count]
    )


def _draw_scan(head: Head, spacing: float, rng: np.random.Generator) -> Scan:
    """A curved array above the head and its settings; in one frame of ten its sector cuts off an edge of the head."""
    around, angle = np.linspace(0, 2 * np.pi, 72), np.deg2rad(head.angle_deg)
    along, across = head.axes_mm[0] / 2 * np.cos(around), head.axes_mm[1] / 2 * np.sin(around)
    rows = head.centre_mm[0] + along * np.sin(angle) + across * np.cos(angle)
    cols = head.centre_mm[1] + along * np.cos(angle) - across * np.sin(angle)
    radius = float(rng.uniform(42, 62))
    surface = min(14 * spacing, rows.min() - 2.0) - float(rng.choice([0.0, 1.0]) * rng.exponential(12.0))
    apex = (float(surface - radius), float(((SHAPE[1] - 1) / 2 + rng.normal(0, 14)) * spacing))
    needed = np.rad2deg(np.abs(np.arctan2(cols - apex[1], rows - apex[0])).max())
    margin = -rng.uniform(1, 2.5) if rng.random() < 0.1 else rng.uniform(0.5, 4)
    far = np.hypot(rows - apex[0], cols - apex[1]).max()
    corner = np.hypot(SHAPE[0] * spacing - apex[0], SHAPE[1] / 2 * spacing)
    fine = float(np.clip(head.axes_mm[0] / 70, 0.6, 1))  # small heads are scanned at a higher frequency
    return Scan(
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
    """Overlays of an ultrasound machine: grey bar, text, a blanked name, and calipers at random positions."""
    marked = image.copy()
    if rng.random() < 0.6:
        marked[12:92, 2:6] = np.linspace(255, 0, 80).astype(np.uint8)[:, None]
    if rng.random() < 0.4:
        text = f"{rng.integers(10, 40)}Hz  {rng.uniform(3, 6):.1f}MHz"
        cv2.putText(marked, text, (300, 262), cv2.FONT_HERSHEY_PLAIN, 0.7, 180, 1, cv2.LINE_AA)
    ultrasound.add_calipers(marked, 230, rng)
    if rng.random() < 0.3:
        row, col = int(rng.integers(215, 245)), int(rng.integers(310, 345))
        marked[row : row + 25, col : col + 60] = 0
    return marked
