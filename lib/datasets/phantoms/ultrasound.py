"""Ultrasound simulation of a fetal head with a curved array: speckle, shadow, log compression.

Echoes are computed on the beam grid (sample along the beam, beam), where attenuation is a cumulative sum and the point
spread is separable, and converted to pixels at the end. Frame coordinates are (row, col) in mm from the centre of the
first pixel; head coordinates are (u, v) in mm along the long axis (positive towards the forehead) and across it.

Source: fully developed speckle as complex Gaussian scatterers convolved with a point spread, Wagner et al. 1983, IEEE
Trans. Sonics Ultrason. 30:156-163. Attenuations are of the order of Szabo 2014, Diagnostic Ultrasound Imaging.
"""

from dataclasses import dataclass

import cv2
import numpy as np

FWHM = 2 * np.sqrt(2 * np.log(2))  # full width at half maximum of a Gaussian, in standard deviations
BEAMS = 256
TISSUE_LOSS_DB_MM = 0.22  # two-way at about 3 MHz, and what time-gain compensation assumes everywhere


@dataclass(frozen=True)
class Scan:
    """Geometry of a curved array above the frame, and machine settings."""

    shape: tuple[int, int]  # (rows, cols) of the frame
    spacing_mm: float  # pixel size, equal along both axes
    apex_mm: tuple[float, float]  # (row, col) of the intersection of all beams, above the frame
    range_mm: tuple[float, float]  # from the apex to the probe's surface and to the last sample
    half_angle_deg: float  # of the sector
    axial_mm: float  # pulse length, full width at half maximum of the amplitude
    lateral_mm: float  # beam width at the focus, likewise
    focus_mm: float  # depth of the focus below the probe's surface
    dynamic_range_db: float  # from black to white
    gain_db: float  # before compression
    gain_slope_db_mm: float  # error of the time-gain compensation
    noise_db: float  # electronic noise at the surface, before compression; white is 0
    noise_slope_db_mm: float  # its increase with depth, by time-gain compensation
    grey_exponent: float  # of the grey map; above 1 darkens mid-greys
    smoothing: float  # SD of the blur of grey values on the beam grid, samples; without it speckle is too fine

    @property
    def grid(self) -> tuple[int, int]:
        """(samples, beams); samples are one pixel size apart."""
        return int(np.ceil((self.range_mm[1] - self.range_mm[0]) / self.spacing_mm)), BEAMS

    @property
    def distance_mm(self) -> np.ndarray:
        """Distances from the apex, (samples, 1)."""
        return (self.range_mm[0] + self.spacing_mm * np.arange(self.grid[0], dtype=np.float32))[:, None]

    @property
    def depth_mm(self) -> np.ndarray:
        """Depths below the probe's surface, (samples, 1)."""
        return self.distance_mm - np.float32(self.range_mm[0])

    @property
    def angle_rad(self) -> np.ndarray:
        """Angles of the beams from the row axis, (1, beams)."""
        half = np.deg2rad(self.half_angle_deg)
        return np.linspace(-half, half, BEAMS, dtype=np.float32)[None]


@dataclass(frozen=True)
class Tissue:
    """Acoustic properties on the beam grid: (samples, beams) float32 each."""

    scatter_db: np.ndarray  # power of diffuse scatterers relative to white
    reflection: np.ndarray  # amplitude of smooth interfaces; 1 is white
    loss_db_mm: np.ndarray  # two-way attenuation


def grid_points_mm(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Frame coordinates (rows, cols) of the beam grid, each (samples, beams)."""
    distance, angle = scan.distance_mm, scan.angle_rad
    return scan.apex_mm[0] + distance * np.cos(angle), scan.apex_mm[1] + distance * np.sin(angle)


def beam_width_mm(scan: Scan, depth_mm: np.ndarray) -> np.ndarray:
    """Lateral full width at half maximum: minimal at the focus, and growing with the distance from it."""
    away = (depth_mm - scan.focus_mm) / np.float32(0.7 * max(scan.focus_mm, 10.0))
    return np.float32(scan.lateral_mm) * np.sqrt(1 + away**2)


def gaussian(sigma: float) -> np.ndarray:
    """Sampled Gaussian whose squares sum to 1, so that filtered white noise keeps its power."""
    reach = max(1, int(np.ceil(3 * sigma)))
    curve = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    return (curve / np.sqrt(np.sum(curve**2))).astype(np.float32)


def point_spread(scan: Scan, field: np.ndarray) -> np.ndarray:
    """Demodulated echo field, (samples, beams, 2) float32, blurred by the point spread; white noise keeps its power.

    The last axis is the real and imaginary part at base band; random phases of scatterers make the carrier unnecessary.
    """
    step = np.deg2rad(2 * scan.half_angle_deg) / (BEAMS - 1)
    sigma = beam_width_mm(scan, scan.depth_mm) / (FWHM * scan.distance_mm * step)  # in beams
    spread = np.empty_like(field)
    for start in range(0, len(field), 16):  # sigma changes by a few percent within 16 samples
        band = slice(start, start + 16)
        kernel = gaussian(float(sigma[band].mean()))
        spread[band] = cv2.sepFilter2D(field[band], -1, kernel, np.ones(1, np.float32))
    return cv2.sepFilter2D(spread, -1, np.ones(1, np.float32), gaussian(scan.axial_mm / FWHM / scan.spacing_mm))


def transmission_db(scan: Scan, loss_db_mm: np.ndarray) -> np.ndarray:
    """Two-way transmission to each sample after time-gain compensation, in dB; negative in shadows."""
    lost = np.cumsum(loss_db_mm - np.float32(TISSUE_LOSS_DB_MM - scan.gain_slope_db_mm), axis=0)
    return -np.float32(scan.spacing_mm) * lost


def envelope(scan: Scan, tissue: Tissue, rng: np.random.Generator) -> np.ndarray:
    """Echo amplitude on the beam grid, float32, 1 for white: speckle, interfaces, shadow and noise.

    In uniform tissue without noise it is Rayleigh distributed, with mean square equal to the scatterers' power.
    """
    gain = transmission_db(scan, tissue.loss_db_mm)
    field = rng.standard_normal((*scan.grid, 2), dtype=np.float32)
    field *= (amplitude(tissue.scatter_db + gain) * np.float32(np.sqrt(0.5)))[..., None]
    interfaces = np.zeros((*scan.grid, 2), np.float32)
    interfaces[..., 0] = amplitude(gain) * tissue.reflection
    uniform = point_spread(scan, np.ones((scan.grid[0], 3, 2), np.float32))[:, 1:2]  # gain of a wide interface
    field = point_spread(scan, field + interfaces / uniform)
    noise = amplitude(scan.noise_db + scan.noise_slope_db_mm * scan.depth_mm) * np.float32(np.sqrt(0.5))
    field += noise[..., None] * rng.standard_normal(field.shape, dtype=np.float32)
    return np.sqrt(field[..., 0] ** 2 + field[..., 1] ** 2)


def amplitude(power_db: np.ndarray) -> np.ndarray:
    """Amplitude of a power in dB, float32: 20 dB are a factor of 10."""
    return np.exp(np.asarray(power_db, np.float32) * np.float32(np.log(10) / 20))


def compress(envelope: np.ndarray, dynamic_range_db: float, grey_exponent: float) -> np.ndarray:
    """Log compression to 0..1, float32: 1 becomes 1, minus the dynamic range 0; then the exponent of the grey map."""
    floor = np.float32(10 ** (-dynamic_range_db / 20))
    level = 1 + np.float32(20 / dynamic_range_db) * np.log10(np.maximum(envelope, floor).astype(np.float32))
    return np.clip(level, 0, 1) ** np.float32(grey_exponent)


def to_frame(scan: Scan, polar: np.ndarray) -> np.ndarray:
    """Scan conversion from the beam grid to a frame of `scan.shape`, 0 outside the sector."""
    rows = np.arange(scan.shape[0], dtype=np.float32) * np.float32(scan.spacing_mm) - np.float32(scan.apex_mm[0])
    cols = np.arange(scan.shape[1], dtype=np.float32) * np.float32(scan.spacing_mm) - np.float32(scan.apex_mm[1])
    down, right = np.meshgrid(rows, cols, indexing="ij")
    sample = (np.hypot(down, right) - np.float32(scan.range_mm[0])) / np.float32(scan.spacing_mm)
    half = np.deg2rad(scan.half_angle_deg)
    beam = (np.arctan2(right, down) + np.float32(half)) * np.float32((BEAMS - 1) / (2 * half))
    return cv2.remap(polar, beam, sample, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def render(scan: Scan, tissue: Tissue, rng: np.random.Generator) -> np.ndarray:
    """B-mode image of `scan.shape`, uint8."""
    gained = envelope(scan, tissue, rng) * np.float32(10 ** (scan.gain_db / 20))
    grey = cv2.GaussianBlur(compress(gained, scan.dynamic_range_db, scan.grey_exponent), (0, 0), scan.smoothing)
    return np.rint(255 * to_frame(scan, grey)).astype(np.uint8)


def add_calipers(image: np.ndarray, grey: int, rng: np.random.Generator) -> None:
    """Draws two crosses into one image of five, at random, so that they do not indicate any structure."""
    if rng.random() < 0.2:
        for row, col in zip(rng.integers(30, 240, 2).tolist(), rng.integers(40, 360, 2).tolist()):
            cv2.drawMarker(image, (col, row), grey, cv2.MARKER_CROSS, 9, 1)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[int, int]) -> np.ndarray:
    """Random field with a standard deviation of about 1, smooth over about one cell: (rows, cols) float32."""
    count = (shape[0] // cell[0] + 2, shape[1] // cell[1] + 2)
    knots = rng.standard_normal(count, dtype=np.float32)
    return cv2.resize(knots, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Chamber:
    """A fluid-filled structure of the brain with bright walls, in head coordinates."""

    centre_mm: tuple[float, float]  # (u, v)
    half_mm: tuple[float, float]  # half length and half width
    tilt_deg: float  # of the long axis, from u towards v
    bend: float  # deviation of the ends from the axis towards v, in half widths
    taper: float  # widening towards the end of larger u
    boxy: bool  # corners nearly square (CSP) rather than an ellipse (ventricle)
    wall_db: float  # brightness of the walls
    fluid_db: float  # scatter of the fluid
    plexus: float  # share of the half width with echogenic choroid plexus; 0 for none

    def coordinates(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Normalised coordinates along and across, -1 to 1 inside, and radius: 0 in the centre, 1 on the border."""
        cos, sin = (float(function(np.deg2rad(self.tilt_deg))) for function in (np.cos, np.sin))
        u, v = u - self.centre_mm[0], v - self.centre_mm[1]
        along = (u * cos + v * sin) / self.half_mm[0]
        across = (v * cos - u * sin) / self.half_mm[1] - self.bend * along**2
        across = across / np.clip(1 + self.taper * along, 0.3, 2)
        p, q = along**2, across**2
        return along, across, np.sqrt(np.sqrt(p * p + q * q)) if self.boxy else np.sqrt(p + q)


@dataclass(frozen=True)
class Head:
    """A head and its position in a frame."""

    axes_mm: tuple[float, float]  # OFD and BPD, outer to outer
    centre_mm: tuple[float, float]  # (row, col) in the frame
    angle_deg: float  # of the long axis, from the column axis towards the row axis
    forehead_left: bool  # u increases towards smaller columns
    skull_mm: float  # thickness of the bone
    skull_db: float  # brightness of the bone at normal incidence
    brain_db: float  # scatter of the parenchyma
    folding: float  # 0 (smooth, early) to 1 (with sulci, late)
    midline_bend_mm: float  # deviation of the falx from the long axis at the centre
    csp: Chamber | None  # the cavum, None if outside the plane (the falx then continues)
    ventricles: tuple[Chamber, ...]  # those in the plane
    texture: np.ndarray  # (k, k, 4) float32 random fields fixed to the head: regions, sulci, gaps in bone, patches

    @property
    def chambers(self) -> tuple[Chamber, ...]:
        """The cavum, if present, and the ventricles."""
        return self.ventricles if self.csp is None else (self.csp, *self.ventricles)

    def coordinates_mm(self, rows_mm: np.ndarray, cols_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Head coordinates (u, v) of points in frame coordinates."""
        cos, sin = (float(function(np.deg2rad(self.angle_deg))) for function in (np.cos, np.sin))
        down, right = rows_mm - self.centre_mm[0], cols_mm - self.centre_mm[1]
        along = right * cos + down * sin
        return (-along if self.forehead_left else along), down * cos - right * sin

    def midline_mm(self, u: np.ndarray) -> np.ndarray:
        """Coordinate v of the falx."""
        return self.midline_bend_mm * (1 - (2 * u / self.axes_mm[0]) ** 2)


def reference_mask(head: Head, shape: tuple[int, int], spacing_mm: tuple[float, float]) -> np.ndarray:
    """Classes at pixel centres, (rows, cols) uint8: 0 outside, 1 inside the bone's outer border, 2 CSP, 3 ventricle."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    u, v = head.coordinates_mm(rows * spacing_mm[0], cols * spacing_mm[1])
    mask = ((2 * u / head.axes_mm[0]) ** 2 + (2 * v / head.axes_mm[1]) ** 2 <= 1).astype(np.uint8)
    for chamber in head.chambers:
        mask[(chamber.coordinates(u, v)[2] <= 1) & (mask == 1)] = 2 if chamber is head.csp else 3
    return mask


def scene(scan: Scan, head: Head, rng: np.random.Generator) -> Tissue:
    """Tissue maps on the beam grid: the head in a uterus drawn from `rng`."""
    u, v = head.coordinates_mm(*grid_points_mm(scan))
    around = _uterus(scan, head, u, v, rng)
    pull_u, pull_v = u / (head.axes_mm[0] / 2) ** 2, v / (head.axes_mm[1] / 2) ** 2
    steep = np.sqrt(pull_u**2 + pull_v**2) + np.float32(1e-6)
    inward = (1 - u * pull_u - v * pull_v) / (2 * steep)  # mm below the outer border, exact to first order
    angle = scan.angle_rad + np.float32(np.deg2rad(head.angle_deg))
    facing = np.abs(np.sin(angle) * pull_u * (-1 if head.forehead_left else 1) + np.cos(angle) * pull_v) / steep
    x, y = ((at / axis + 0.5) * (head.texture.shape[0] - 1) for at, axis in zip((u, v), head.axes_mm))
    texture = cv2.remap(head.texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    brain, echoes = _brain(head, u, v, inward, np.abs(np.cos(angle)), texture)
    uneven = texture[..., 2] + 0.6 * texture[..., 3]
    skull_mm = head.skull_mm * (1 + 0.15 * np.clip(uneven, -2, 2))  # inner border; the outer one is exactly the ellipse
    bone = np.clip(np.minimum(inward, skull_mm - inward) / (0.35 * skull_mm), 0, 1)
    bright = head.skull_db + 4 * uneven - 14 * np.clip(-uneven - 1, 0, 1)  # sound passes thin bone and sutures
    bright = bone * amplitude(bright + 70 * np.log10(np.maximum(facing, 0.1)))
    inside = inward > 0
    scatter = np.where(inside, brain, around.scatter_db)
    scatter = np.where(bone > 0.3, np.maximum(scatter, head.skull_db - 30 + 4 * texture[..., 2]), scatter)
    scatter = _add_haze(scan, scatter, np.where(v < 0, bright, 0), float(rng.uniform(-30, -18)))
    loss = np.where(inside, np.float32(0.8 * TISSUE_LOSS_DB_MM), around.loss_db_mm)
    loss += (6.0 / head.skull_mm) * bone  # about 4 dB per crossing at normal incidence, far more when grazing
    contact = 5 * np.maximum(smooth_noise(rng, (1, BEAMS), (1, 22)) - 0.4, 0)  # dB lost at the skin
    loss[:1] += contact / np.float32(scan.spacing_mm)
    return Tissue(scatter, np.where(inside, np.maximum(bright, echoes), around.reflection), loss)


def _uterus(scan: Scan, head: Head, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> Tissue:
    """Maternal tissues, amniotic fluid and fetal scalp."""
    tissue_db, fluid_db, wall_mm = (float(rng.uniform(*limits)) for limits in ((-46, -26), (-74, -56), (0, 14)))
    half, shift = rng.uniform(0.45, 0.8, 2), rng.normal(0, 0.15, 2)
    across = v / (head.axes_mm[1] * float(half[0])) - float(shift[0])
    along = u / (head.axes_mm[0] * float(half[1])) - float(shift[1])
    sac = np.hypot(across, along) + 0.16 * smooth_noise(rng, scan.grid, (110, 70))  # 1 on the cavity's wall
    muscle = scan.depth_mm < wall_mm + 1.5 * smooth_noise(rng, (1, BEAMS), (1, 60))
    fluid = (sac < 1) & ~muscle
    streaks = np.exp(-((smooth_noise(rng, scan.grid, (12, 60)) / np.float32(0.15)) ** 2))
    db = tissue_db + 5 * smooth_noise(rng, scan.grid, (60, 50)) + 3 * smooth_noise(rng, scan.grid, (4, 10))
    db += 9 * streaks * np.clip(smooth_noise(rng, scan.grid, (40, 30)), 0, 1)
    db = np.where(muscle, db + 5 + 5 * smooth_noise(rng, scan.grid, (6, 110)), np.where(fluid, fluid_db, db))
    skin_mm, skin_db = float(rng.uniform(0.3, 2.5)), tissue_db - float(rng.uniform(2, 14))
    scalp = (u / (head.axes_mm[0] / 2 + skin_mm)) ** 2 + (v / (head.axes_mm[1] / 2 + skin_mm)) ** 2 < 1
    db = np.where(scalp & fluid, skin_db, db)
    slope = np.diff(sac, axis=0, append=sac[-1:]) / np.float32(scan.spacing_mm) * (head.axes_mm[1] * float(half[0]))
    rim = np.float32(0.1) * np.exp(-(((sac - 1) / np.float32(0.03)) ** 2)) * np.clip(np.abs(slope), 0, 1) ** 4
    return Tissue(db, rim * ~muscle, np.where(fluid, np.float32(0), np.float32(TISSUE_LOSS_DB_MM)))


def _brain(
    head: Head, u: np.ndarray, v: np.ndarray, inward: np.ndarray, facing: np.ndarray, texture: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scatter and reflection of parenchyma, falx, thalami, CSP and ventricles."""
    ofd, bpd = head.axes_mm
    regions, sulci, gaps, patches = np.moveaxis(texture, -1, 0)
    db = head.brain_db + 3.5 * regions + 3 * patches
    db -= 6 * (inward < head.skull_mm + 0.03 * bpd)  # subarachnoid fluid
    off_midline = v - head.midline_mm(u) - 0.006 * bpd * (regions + patches)  # membranes are not straight
    thalami = ((u + 0.06 * ofd) / (0.11 * ofd)) ** 2 + ((np.abs(off_midline) - 0.075 * bpd) / (0.06 * bpd)) ** 2
    db -= 5 * np.clip(2 * (1.3 - thalami), 0, 1)
    within = np.clip((inward - head.skull_mm) / 2, 0, 1)
    lines = np.exp(-((sulci / np.float32(0.13)) ** 2)) * np.clip(patches + 0.3 * regions, 0, 1)
    db += (8 + 8 * head.folding) * lines
    falx = np.clip(0.35 + 0.5 * gaps + 0.2 * patches, 0.03, 1) * within
    if head.csp is not None:
        falx *= np.clip((np.abs(u - head.csp.centre_mm[0]) - head.csp.half_mm[0]) / 0.5, 0, 1)
    echoes = np.float32(0.3) * np.exp(-((off_midline / (0.002 * bpd + 0.12)) ** 2)) * falx
    echoes = np.maximum(echoes, (0.03 + 0.08 * head.folding) * lines * within)
    for chamber in head.chambers:
        db, echoes = _add_chamber(chamber, u, v, db, echoes, texture)
    return db, echoes * facing**8  # midline interfaces are bright only at normal incidence


def _add_chamber(
    chamber: Chamber, u: np.ndarray, v: np.ndarray, db: np.ndarray, echoes: np.ndarray, texture: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scatter and reflection with a chamber added."""
    along, across, radius = chamber.coordinates(u, v)
    flat = np.clip(np.abs(across) / (radius + np.float32(1e-3)), 0, 1) ** 3  # 1 where the wall is parallel to it
    gaps = np.clip(0.7 + 0.4 * texture[..., 2], 0.25, 1)
    thick = min(0.4, 0.15 * chamber.half_mm[1])
    wall = amplitude(chamber.wall_db) * flat * gaps * np.exp(-(((radius - 1) * chamber.half_mm[1] / thick) ** 2))
    db = np.where(radius < 1, chamber.fluid_db + 1.5 * texture[..., 3], db)
    if chamber.plexus > 0:
        blob = ((along - 0.2) / 0.5) ** 2 + (across / chamber.plexus) ** 2 + 0.3 * texture[..., 3]
        db = np.where((blob < 1) & (radius < 0.9), chamber.fluid_db + 26, db)
    return db, np.where(radius < 1, wall, np.maximum(echoes, wall))


def _add_haze(scan: Scan, scatter_db: np.ndarray, near: np.ndarray, haze_db: float) -> np.ndarray:
    """Adds reverberation: echoes of the near bone at regular distances behind it."""
    power = amplitude(scatter_db) ** 2
    step = round(2.2 / scan.spacing_mm)
    for echo in range(1, 6):
        power[echo * step :] += (amplitude(haze_db - 3.0 * echo) * near[: -echo * step]) ** 2
    return 10 * np.log10(power)
