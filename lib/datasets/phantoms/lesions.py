"""Soft-tissue ultrasound phantoms: layers, with or without one mass of exactly known border.

Speckle, shadow and compression are those of `phantoms.ultrasound`. Lengths that only affect the appearance are in
pixels times pixel size, so that a near field of 4 cm and a sector of 11 cm look alike.

Source of the appearance: images of Al-Dhabyani et al. 2020, doi:10.1016/j.dib.2019.104863 (layers of skin, fat, gland
and muscle; enhancement behind fluid, shadow behind dense masses).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from lib.datasets.phantoms import ultrasound
from lib.datasets.phantoms.ultrasound import BEAMS, Scan, Tissue, smooth_noise

SHAPE = (270, 400)
AREA_SHARES = (0.02, 0.30)  # of the frame covered by a mass
FAR_MM = 1500.0  # distance of a linear array's apex: beams are parallel within 2 degrees


@dataclass(frozen=True)
class Border:
    """A closed curve: an ellipse whose radius is modulated by waves around the centre."""

    centre_mm: tuple[float, float]  # (row, col)
    half_mm: tuple[float, float]  # half axes, along and across
    tilt_deg: float  # of the first axis, from the column axis towards the row axis
    waves: tuple[tuple[float, float], ...] = ()  # (cosine, sine) of 2, 3, ... waves; amplitudes sum to less than 1

    def level(self, rows_mm: np.ndarray, cols_mm: np.ndarray) -> np.ndarray:
        """Normalised radius: 0 in the centre, 1 on the border, linear along each ray."""
        rotation = np.exp(-1j * np.deg2rad(self.tilt_deg))
        point = ((cols_mm - self.centre_mm[1]) + 1j * (rows_mm - self.centre_mm[0])) * rotation
        ray = point.real / self.half_mm[0] + 1j * (point.imag / self.half_mm[1])
        length = np.abs(ray)
        return length / self._stretch(ray / np.maximum(length, 1e-9))

    def points_mm(self, count: int = 360) -> np.ndarray:
        """Points on the border: (count, 2) of (row, col)."""
        ray = np.exp(2j * np.pi * np.arange(count) / count)
        ray = self._stretch(ray) * ray
        points = (ray.real * self.half_mm[0] + 1j * ray.imag * self.half_mm[1]) * np.exp(1j * np.deg2rad(self.tilt_deg))
        return np.column_stack([points.imag + self.centre_mm[0], points.real + self.centre_mm[1]])

    @property
    def area_mm2(self) -> float:
        """Exact area: the integral of half the squared radius is a sum of squares (Parseval)."""
        return float(np.pi * np.prod(self.half_mm) * (1 + sum(c * c + s * s for c, s in self.waves) / 2))

    def _stretch(self, direction: np.ndarray) -> np.ndarray:
        """Radius of the border relative to the ellipse, for unit complex directions."""
        stretch, power = np.ones(direction.shape), direction
        for cosine, sine in self.waves:
            power = power * direction
            stretch = stretch + cosine * power.real + sine * power.imag
        return stretch


@dataclass(frozen=True)
class Mass:
    """Appearance of a mass inside its border and at the transition to the tissue."""

    border: Border
    contrast_db: float  # how much darker it is than the dark tissue next to it
    grain_db: float  # texture inside
    margin_mm: float  # width of the transition, centred on the border
    rim_db: float  # brightness of the capsule at normal incidence
    halo_db: float  # how much brighter the tissue next to it is
    loss: float  # attenuation relative to the tissue; below 1 enhances, above 1 shadows what is behind


@dataclass(frozen=True)
class Frame:
    """One image with its reference."""

    image: np.ndarray  # (H, W) uint8
    mask: np.ndarray  # (H, W) uint8: 1 inside the mass
    border: Border | None  # of the mass, in mm from the centre of the first pixel
    spacing_mm: float  # pixel size, equal along both axes


def draw_frame(seed: int, number: int, with_mass: bool) -> Frame:
    """Image `number`, from 1, with its reference; vessels, cysts and shadows occur with and without a mass."""
    rng = np.random.default_rng([seed, number, int(with_mass)])
    scan, tissue_loss = _draw_scan(rng)
    mass = _draw_mass(scan, rng) if with_mass else None
    tissue = _tissue(scan, tissue_loss, mass, rng)
    image = _add_marks(ultrasound.render(scan, tissue, rng), rng)
    border = mass.border if mass else None
    return Frame(image, reference_mask(border, scan.shape, scan.spacing_mm), border, scan.spacing_mm)


def reference_mask(border: Border | None, shape: tuple[int, int], spacing_mm: float) -> np.ndarray:
    """Pixels whose centre is inside a border: (H, W) uint8, 0 or 1; all 0 without one."""
    if border is None:
        return np.zeros(shape, np.uint8)
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return (border.level(rows * spacing_mm, cols * spacing_mm) <= 1).astype(np.uint8)


def outline(border: Border, shape: tuple[int, int], spacing_mm: float, thickness_px: float) -> np.ndarray:
    """A border as a line of some thickness centred on it: (H, W) bool."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    level = border.level(rows * spacing_mm, cols * spacing_mm)
    return np.abs(level - 1) <= thickness_px / 2 * np.hypot(*np.gradient(level))


def _draw_scan(rng: np.random.Generator) -> tuple[Scan, float]:
    """A linear array that fills the frame, or a curved one above it, and the tissue's attenuation in dB per mm."""
    curved = rng.random() < 0.35
    spacing = round(float(rng.uniform(0.24, 0.38) if curved else rng.uniform(0.09, 0.15)), 6)
    radius = float(rng.uniform(40, 60)) if curved else FAR_MM
    top, across = float(rng.uniform(4, 12) * spacing if curved else rng.uniform(-8, 0) * spacing), SHAPE[1] * spacing
    half = float(np.deg2rad(rng.uniform(31, 38))) if curved else float(np.arctan(0.505 * across / radius))
    depth = (SHAPE[0] + float(rng.uniform(-8, 12) if curved else 12)) * spacing
    loss = float(rng.uniform(22, 34)) / depth
    return Scan(
        shape=SHAPE,
        spacing_mm=spacing,
        apex_mm=(top - radius, (SHAPE[1] - 1) / 2 * spacing),
        range_mm=(radius, radius + depth),
        half_angle_deg=float(np.rad2deg(half)),
        axial_mm=float(rng.uniform(2.0, 3.2)) * spacing,
        lateral_mm=float(rng.uniform(3.8, 6.5)) * spacing,
        focus_mm=float(rng.uniform(0.35, 0.7)) * depth,
        dynamic_range_db=float(rng.uniform(56, 70)),
        gain_db=float(rng.uniform(-4, 4)),
        gain_slope_db_mm=ultrasound.TISSUE_LOSS_DB_MM - loss + float(rng.uniform(-26, 2)) / depth,
        noise_db=float(rng.uniform(-80, -68)),
        noise_slope_db_mm=float(rng.uniform(2, 16)) / depth,
        grey_exponent=float(rng.uniform(1.1, 1.7)),
        smoothing=float(rng.uniform(0.6, 1.0)),
    ), loss


def _draw_mass(scan: Scan, rng: np.random.Generator) -> Mass:
    """Between an obvious smooth cyst and a lobulated mass almost as bright as the tissue."""
    kind, pixel = rng.choice(["cyst", "solid", "faint"], p=[0.2, 0.55, 0.25]), scan.spacing_mm
    roughness = float(rng.uniform(0.0, 0.3) if kind == "cyst" else rng.uniform(0.1, 1))
    contrast = {"cyst": (18, 30), "solid": (7, 15), "faint": (3.5, 6)}[str(kind)]
    shadow = kind != "cyst" and rng.random() < 0.45
    return Mass(
        border=_draw_border(scan, roughness, rng),
        contrast_db=float(rng.uniform(*contrast)),
        grain_db=0.0 if kind == "cyst" else float(rng.uniform(1, 3)),
        margin_mm=float(rng.uniform(1, 3) + 9 * roughness * rng.random()) * pixel,
        rim_db=float(rng.uniform(-22, -8)) if rng.random() < 0.5 else -60.0,
        halo_db=float(rng.uniform(2, 7)) if rng.random() < 0.35 else 0.0,
        loss=float(rng.uniform(1.3, 2.3) if shadow else rng.uniform(0.0, 0.8)),
    )


def _draw_border(scan: Scan, roughness: float, rng: np.random.Generator) -> Border:
    """A border inside the frame and the sector; roughness 0 is nearly an ellipse, 1 is lobulated."""
    share = float(np.exp(rng.uniform(*np.log(AREA_SHARES))))
    ratio, tilt = float(np.exp(rng.normal(0.33, 0.22))), float(rng.normal(0, 14))
    orders = np.arange(2, 9)
    strength = np.where(orders <= 3, 0.035 + 0.05 * roughness, 0.06 * roughness * (4 / orders) ** 1.5)
    waves = np.clip(rng.normal(size=(len(orders), 2)), -1.6, 1.6) * strength[:, None]
    waves *= min(1.0, 0.6 / np.hypot(*waves.T).sum())  # the curve never comes near its centre
    unit = Border((0.0, 0.0), (np.sqrt(ratio), 1 / np.sqrt(ratio)), tilt, tuple((float(c), float(s)) for c, s in waves))
    size = float(np.sqrt(share * np.prod(SHAPE) / unit.area_mm2)) * scan.spacing_mm
    for _ in range(200):
        border = replace(unit, half_mm=(size * unit.half_mm[0], size * unit.half_mm[1]))
        low, high = border.points_mm().min(axis=0), border.points_mm().max(axis=0)
        limits = np.array([[24, SHAPE[0] - 12], [8, SHAPE[1] - 8]]) * scan.spacing_mm
        room = limits[:, 1] - limits[:, 0] - (high - low)
        centre = limits[:, 0] - low + np.clip(rng.normal([0.42, 0.5], 0.22), 0, 1) * room
        placed = replace(border, centre_mm=(float(centre[0]), float(centre[1])))
        if (room > 0).all() and _is_visible(scan, placed.points_mm()):
            return placed
        size *= 0.99
    raise ValueError("no position for a mass in the sector")  # 200 steps leave an eighth of its length


def _is_visible(scan: Scan, points_mm: np.ndarray) -> bool:
    """Whether points are inside the sector, clear of its edge."""
    down, right = points_mm[:, 0] - scan.apex_mm[0], points_mm[:, 1] - scan.apex_mm[1]
    reach, pixel = np.hypot(down, right), scan.spacing_mm
    clearance = np.deg2rad(scan.half_angle_deg) * reach - np.abs(np.arctan2(right, down)) * reach
    return bool(
        (reach > scan.range_mm[0] + 14 * pixel).all()
        and (reach < scan.range_mm[1] - 6 * pixel).all()
        and (clearance > 3 * pixel).all()
    )


def _tissue(scan: Scan, tissue_loss: float, mass: Mass | None, rng: np.random.Generator) -> Tissue:
    """Tissue layers with vessels, cysts, shadows and the mass."""
    tissue = Tissue(*_layers(scan, rng), np.full(scan.grid, tissue_loss, np.float32))
    for added in _draw_distractors(scan, mass, rng) + [mass] * (mass is not None):
        tissue = _add(scan, added, tissue, rng)
    return replace(tissue, loss_db_mm=tissue.loss_db_mm + _shadows(scan, rng))


def _layers(scan: Scan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scatter and reflection of skin, fat, gland and muscle."""
    samples = scan.grid[0]
    waviness = (float(rng.uniform(4, 18)), float(rng.uniform(70, 160)))
    wave = waviness[0] * smooth_noise(rng, scan.grid, (140, round(waviness[1])))
    wave *= np.clip(scan.depth_mm / (60 * scan.spacing_mm), 0.1, 1)  # skin is flat at the probe
    at = np.arange(samples, dtype=np.float32)[:, None] + wave  # depth in samples, following the layers
    x, y = np.broadcast_to(np.arange(BEAMS, dtype=np.float32)[None], at.shape).copy(), at
    cells = ((60, 50), (14, 30), (6, 60), (30, 50), (4, 12), (9, 26))
    fields = np.dstack([smooth_noise(rng, scan.grid, cell) for cell in cells])
    patches, clumps, stripes, septa, grain, fibres = np.moveaxis(
        cv2.remap(fields, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), -1, 0
    )
    tissue_db = float(rng.uniform(-36, -28))
    edges = np.cumsum([rng.uniform(5, 12), rng.uniform(25, 90), rng.uniform(70, 140)])
    skin, fat, gland = (np.clip((float(edge) - at) / 4 + 0.5, 0, 1) for edge in edges)
    lines = np.exp(-((septa / np.float32(0.09)) ** 2)) * np.clip(0.8 + patches, 0, 1)
    streaks = np.clip(stripes - 0.4, 0, 1.2) * np.clip(0.7 + patches, 0.1, 1.4)
    strands = np.exp(-((fibres / np.float32(0.13)) ** 2)) * np.clip(0.4 + clumps, 0, 1)
    deep = tissue_db - float(rng.uniform(4, 12)) + 3 * patches + float(rng.uniform(8, 15)) * streaks
    uneven = float(rng.uniform(2.5, 5)) * patches + float(rng.uniform(2, 5)) * clumps
    db = deep + gland * (tissue_db + uneven + float(rng.uniform(3, 9)) * np.maximum(streaks, strands) - deep)
    db += fat * (tissue_db - float(rng.uniform(4, 10)) + 1.5 * patches + float(rng.uniform(8, 15)) * lines - db)
    db += skin * (tissue_db + float(rng.uniform(4, 12)) + 2 * stripes - db)
    fascia = sum(
        np.float32(rng.uniform(0.04, 0.3)) * np.exp(-(((at - float(edge)) / np.float32(1.2)) ** 2)) for edge in edges
    )
    return db + 1.5 * grain, fascia * np.clip(0.5 + 0.6 * patches + 0.5 * clumps, 0, 1)


def _draw_distractors(scan: Scan, mass: Mass | None, rng: np.random.Generator) -> list[Mass]:
    """Small cysts and vessels away from the mass, absent from the reference."""
    distractors = []
    for _ in range(int(rng.integers(0, 5))):
        vessel, pixel = rng.random() < 0.5, scan.spacing_mm
        half = (rng.uniform(14, 40), rng.uniform(3, 5.5)) if vessel else rng.uniform(3, 9) * np.array([1.3, 1.0])
        centre = rng.uniform([0.12, 0.08], [0.85, 0.92]) * np.array(SHAPE) * pixel
        centre, half = (float(centre[0]), float(centre[1])), (float(half[0]) * pixel, float(half[1]) * pixel)
        border = Border(centre, half, float(rng.normal(0, 18)))
        small = Mass(
            border=border,
            contrast_db=float(rng.uniform(8, 24)),
            grain_db=0.0,
            margin_mm=2 * pixel,
            rim_db=float(rng.uniform(-30, -17)) if vessel else -60.0,
            halo_db=0.0,
            loss=float(rng.uniform(0.1, 0.8)),
        )
        edge = border.points_mm(24)
        if _is_visible(scan, edge) and (mass is None or mass.border.level(*edge.T).min() > 1.15):
            distractors.append(small)
    return distractors


def _shadows(scan: Scan, rng: np.random.Generator) -> np.ndarray:
    """Attenuation at the skin and behind ligaments and calcifications, added to the tissue's."""
    contact = smooth_noise(rng, (1, BEAMS), (1, int(rng.integers(16, 60))))
    contact = 5 * np.maximum(contact - 0.8, 0)  # dB lost at the skin
    side = np.clip(1 - np.arange(BEAMS) / rng.uniform(4, 50), 0, 1)[:: int(rng.choice([-1, 1]))]
    contact = contact + float(rng.uniform(4, 22)) * (rng.random() < 0.4) * side
    loss = np.zeros(scan.grid, np.float32)
    loss[:1] = contact / np.float32(scan.spacing_mm)
    for _ in range(int(rng.integers(0, 4))):
        sample, beam = int(rng.uniform(0.08, 0.6) * scan.grid[0]), float(rng.uniform(0, BEAMS))
        across = np.exp(-(((np.arange(BEAMS) - beam) / rng.uniform(2, 9)) ** 2))
        loss[sample : sample + 4] += np.float32(rng.uniform(3, 12) / (4 * scan.spacing_mm)) * across
    return loss


def _distance_mm(scan: Scan, border: Border) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance to a border on the beam grid (negative inside, to first order), and cosine of the incidence."""
    level = border.level(*ultrasound.grid_points_mm(scan)).astype(np.float32)
    along, across = np.gradient(level)
    step = np.deg2rad(2 * scan.half_angle_deg) / (BEAMS - 1)
    along, across = along / np.float32(scan.spacing_mm), across / (scan.distance_mm * np.float32(step))
    steep = np.hypot(along, across) + np.float32(1e-6)
    return (level - 1) / steep, np.abs(along) / steep


def _add(scan: Scan, mass: Mass, tissue: Tissue, rng: np.random.Generator) -> Tissue:
    """Tissue with a mass added."""
    distance, facing = _distance_mm(scan, mass.border)
    scatter, loss, pixel = tissue.scatter_db, tissue.loss_db_mm, np.float32(scan.spacing_mm)
    share = np.clip(0.5 - distance / np.float32(mass.margin_mm), 0, 1)
    around = scatter[(distance > 0) & (distance < 20 * pixel)]
    own = np.quantile(around, 0.3) - mass.contrast_db  # darker than most of the adjacent tissue
    grain = smooth_noise(rng, scan.grid, (16, 18)) + 0.6 * smooth_noise(rng, scan.grid, (6, 8))
    foci = np.clip(smooth_noise(rng, scan.grid, (9, 8)) - 1.9, 0, 1) * 5 * mass.grain_db  # calcifications, debris
    scatter = scatter + share * (np.float32(own) + mass.grain_db * grain + foci - scatter)
    scatter += mass.halo_db * np.exp(-((distance / (7 * pixel)) ** 2)) * (distance > 0)
    rim = ultrasound.amplitude(mass.rim_db) * np.exp(-((distance / (1.2 * pixel)) ** 2)) * facing**6
    loss = loss * (1 + share * np.float32(mass.loss - 1))
    if mass.loss < 1:  # edge shadows: a smooth round wall refracts sound at its sides
        side = np.exp(-((distance / (2.5 * pixel)) ** 2)) * np.clip(1 - facing / 0.35, 0, 1)
        loss = loss + side * np.float32(0.12) / pixel
    return Tissue(scatter, np.maximum(tissue.reflection * (1 - share), rim), loss)


def _add_marks(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Overlays of an ultrasound machine: text and calipers at random positions."""
    marked = image.copy()
    if rng.random() < 0.35:
        text = f"{rng.choice(['L', 'R'])} {rng.integers(1, 12)}H"
        position = int(rng.integers(8, 330)), int(rng.integers(225, 262))
        cv2.putText(marked, text, position, cv2.FONT_HERSHEY_PLAIN, 0.9, 220, 1, cv2.LINE_AA)
    ultrasound.add_calipers(marked, 235, rng)
    return marked
