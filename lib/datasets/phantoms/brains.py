"""Brain MRI phantoms: axial slices in three sequences, with or without a lesion of exactly known border.

All structures are ellipsoids in mm, a lesion is a union of some; a voxel belongs to the structure around its centre.
Lengths that only affect the appearance are in mm too, so that it does not depend on the slice thickness.

Source of appearance and anomalies: Buda, Saha and Mazurowski 2019, doi:10.1016/j.compbiomed.2019.05.002 (sequences
replaced by FLAIR, channels that registration left empty in end slices, lesion in a last slice).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

PRE, FLAIR, POST = 0, 1, 2
SLICES = (12, 30)
MAX_ATTEMPTS = 400  # to place a lesion, which shrinks slightly each time

# Grey value of each tissue, 0 to 1, as (pre-contrast, FLAIR, post-contrast).
SCALP, BONE, FLUID = (0.85, 0.80, 0.90), (0.07, 0.06, 0.09), (0.18, 0.10, 0.20)
GREY_MATTER, WHITE_MATTER = (0.42, 0.45, 0.44), (0.50, 0.40, 0.52)
FAT, SINUS, LESION = (0.78, 0.72, 0.80), (0.25, 0.30, 0.90), (0.36, 0.45, 0.38)
SPOT = (0.44, 0.72, 0.46)
CAP_FLAIR = 0.16  # bright caps around the ventricles, which are not lesions


@dataclass(frozen=True)
class Site:
    """An institution and the properties of its images."""

    code: str  # two letters
    shape: tuple[int, int]  # (rows, cols) of a slice
    pixel_mm: tuple[float, float]  # (row, col)
    gains: tuple[float, float, float]  # per sequence; institutions have no common grey scale
    noise: float  # standard deviation, in grey values from 0 to 1


SITES = {
    "C": Site("CS", (96, 96), (2.4, 2.4), (0.80, 0.60, 0.85), 0.018),
    "D": Site("DU", (112, 96), (2.1, 2.4), (0.95, 0.95, 0.90), 0.022),
    "E": Site("EZ", (96, 96), (2.3, 2.3), (0.55, 0.45, 0.60), 0.014),
    "F": Site("FG", (96, 112), (2.4, 2.1), (0.70, 0.80, 0.65), 0.028),
    "H": Site("HT", (96, 96), (2.4, 2.4), (0.90, 0.75, 1.00), 0.022),
}
SITE_ORDER = "HCHDFHCHDHCHEHCDHFCHHDCH"  # sites of subjects 1, 2, ...; repeats


@dataclass(frozen=True)
class Kind:
    """Properties that depend on a subject's number alone, so that few subjects already show most anomalies."""

    site: Site
    lesion: bool  # whether it is present
    second: bool  # the lesion has a small second component
    faint: bool  # the lesion is hardly brighter on FLAIR
    at_end: bool  # the lesion reaches into the last slice
    replaced: tuple[int, ...]  # sequences replaced by FLAIR
    emptied: bool  # one sequence is 0 in the first slices


@dataclass(frozen=True)
class Grid:
    """Voxel centres of a volume."""

    shape: tuple[int, int, int]  # (slices, rows, cols)
    voxel_mm: tuple[float, float, float]  # (slice, row, col)

    @property
    def coordinates_mm(self) -> list[np.ndarray]:
        """Coordinates along (slice, row, col) from the first voxel's centre, shaped for broadcasting."""
        return [axis * mm for axis, mm in zip(np.ogrid[tuple(map(slice, self.shape))], self.voxel_mm)]

    @property
    def size_mm(self) -> np.ndarray:
        """Distance from the first to the last voxel's centre, (slice, row, col)."""
        return (np.array(self.shape) - 1) * np.array(self.voxel_mm)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid, rotated within the slice plane."""

    centre_mm: tuple[float, float, float]  # (slice, row, col) from the centre of the first voxel
    half_mm: tuple[float, float, float]  # half axes along (slice, row, col), before rotation
    turn_deg: float  # rotation within the slice, from column towards row

    def level(self, grid: Grid) -> np.ndarray:
        """Normalised radius, (slices, rows, cols): 0 in the centre, 1 on the surface."""
        up, down, right = (axis - centre for axis, centre in zip(grid.coordinates_mm, self.centre_mm))
        cosine, sine = np.cos(np.deg2rad(self.turn_deg)), np.sin(np.deg2rad(self.turn_deg))
        own_axes = (up, cosine * down - sine * right, sine * down + cosine * right)
        return np.sqrt(sum((axis / half) ** 2 for axis, half in zip(own_axes, self.half_mm)))


Part = tuple[Ellipsoid, ...]  # one component of a lesion: a union of overlapping ellipsoids


@dataclass(frozen=True)
class Head:
    """Anatomy of one patient, without the lesion."""

    grid: Grid
    skull: Ellipsoid  # outer surface of the bone, below the scalp
    brain: Ellipsoid  # fluid fills the gap to the bone
    ventricles: Part  # fluid within the brain
    fat: Part  # bright bodies behind the eyes and at the base of the skull
    sinus: Ellipsoid  # bright after contrast
    spots: Part  # bright on FLAIR, smaller than any lesion
    scalp_mm: float  # thicknesses
    bone_mm: float


@dataclass(frozen=True)
class Volume:
    """One patient with its reference."""

    image: np.ndarray  # (slices, rows, cols, 3) uint8, from the base of the skull upwards
    mask: np.ndarray  # (slices, rows, cols) uint8: 1 where a voxel's centre is inside the lesion
    parts: tuple[Part, ...]  # components of the lesion, more than a voxel apart; () without a lesion
    grid: Grid
    kind: Kind

    @property
    def truth(self) -> dict[str, float]:
        """slices, lesion_slices, lesion_voxels, parts, and lesion_ml (voxels times voxel volume)."""
        voxels = int(np.count_nonzero(self.mask))
        return {
            "slices": len(self.mask),
            "lesion_slices": int(self.mask.any(axis=(1, 2)).sum()),
            "lesion_voxels": voxels,
            "parts": len(self.parts),
            "lesion_ml": round(voxels * float(np.prod(self.grid.voxel_mm)) / 1000, 9),
        }


def draw_volume(seed: int, subject: int) -> Volume:
    """One patient with its reference; subjects are numbered from 1."""
    rng = np.random.default_rng([seed, subject])
    kind = kind_of(subject)
    head = _draw_head(kind, rng)
    parts = _draw_lesion(head, kind, rng) if kind.lesion else ()
    image = _render(head, kind, parts, rng)
    return Volume(image, reference_mask(parts, head.grid), parts, head.grid, kind)


def kind_of(subject: int) -> Kind:
    """Properties of a subject, numbered from 1; they repeat after 24."""
    index = (subject - 1) % len(SITE_ORDER)
    return Kind(
        site=SITES[SITE_ORDER[index]],
        lesion=index not in (5, 19),
        second=index in (1, 7, 13, 22),
        faint=index in (3, 9, 16),
        at_end=index == 8,
        replaced={4: (POST,), 12: (PRE,), 17: (PRE, POST), 20: (POST,)}.get(index, ()),
        emptied=index in (2, 14, 21),
    )


def reference_mask(parts: tuple[Part, ...], grid: Grid) -> np.ndarray:
    """Voxels whose centre is inside a lesion: (slices, rows, cols) uint8, 0 or 1; all 0 without parts."""
    mask = np.zeros(grid.shape, np.uint8)
    for part in parts:
        mask |= part_level(part, grid) <= 1
    return mask


def part_level(part: Part, grid: Grid) -> np.ndarray:
    """Smallest level of a part's ellipsoids, (slices, rows, cols): 1 on the surface of their union."""
    return np.minimum.reduce([body.level(grid) for body in part])


def _draw_head(kind: Kind, rng: np.random.Generator) -> Head:
    """A head that fills the frame up to a margin, from the base of the skull to near the vertex."""
    slices = int(rng.integers(SLICES[0], SLICES[1] + 1))
    half = np.array([rng.uniform(78, 88), rng.uniform(90, 100), rng.uniform(74, 82)])  # (slice, row, col) mm
    turn, scalp, bone = float(rng.normal(0, 4)), float(rng.uniform(5, 8)), float(rng.uniform(5, 8))
    skull, brain = half - scalp, half - scalp - bone - rng.uniform(2, 5)
    below = rng.uniform(0.35, 0.5) * half[0]  # imaged extent below and above the centre
    above = rng.uniform(0.7, 0.85) * brain[0]
    spacing = round(float((below + above) / (slices - 1)), 3)
    grid = Grid((slices, *kind.site.shape), (spacing, *kind.site.pixel_mm))
    centre_mm = np.array([below, *(grid.size_mm[1:] / 2 + rng.uniform(-4, 4, 2))])
    centre = _floats(centre_mm)

    def body(up: float, back: float, right: float, half_mm: tuple[float, float, float]) -> Ellipsoid:
        """A body at a position in units of the brain's half axes."""
        return Ellipsoid(_floats(centre_mm + np.array([up, back, right]) * brain), half_mm, turn)

    wide = float(rng.uniform(0.8, 1.4))
    return Head(
        grid=grid,
        skull=Ellipsoid(centre, _floats(skull), turn),
        brain=Ellipsoid(centre, _floats(brain), turn),
        ventricles=tuple(body(0.08, 0.05, side, (17.0, 30.0, 5.5 * wide)) for side in (-0.15, 0.15)),
        fat=(
            *(body(-0.42, -0.78, side, (11.0, 13.0, 12.0)) for side in (-0.42, 0.42)),
            body(-0.5, 0.1, float(rng.uniform(-0.3, 0.3)), (9.0, 10.0, 16.0)),
        ),
        sinus=body(0.35, 0.98, 0.0, (60.0, 6.0, 5.0)),
        spots=tuple(body(*rng.uniform(-0.5, 0.5, 3), (4.0, 3.0, 3.5)) for _ in range(int(rng.integers(1, 6)))),
        scalp_mm=scalp,
        bone_mm=bone,
    )


def _floats(values: np.ndarray) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third


def _draw_lesion(head: Head, kind: Kind, rng: np.random.Generator) -> tuple[Part, ...]:
    """One part, or two that do not touch, inside the brain and clear of the end slices unless `kind.at_end`."""
    lobes, radius = int(rng.choice([0, 2, 3, 4])), float(np.exp(rng.uniform(*np.log([13, 25]))))
    level = head.brain.level(head.grid)
    for attempt in range(MAX_ATTEMPTS):
        part = _draw_part(head, radius * 0.997**attempt, lobes, kind.at_end, rng)
        region = part_level(part, head.grid) <= 1
        if not _is_placed(region, level, kind.at_end):
            continue
        if not kind.second:
            return (part,)
        small = _draw_part(head, float(rng.uniform(7, 10)), 0, False, rng)
        other = part_level(small, head.grid) <= 1
        if not _is_placed(other, level, False):
            continue
        near = ndimage.binary_dilation(region, np.ones((3, 3, 3)), iterations=2)
        if not (near & other).any():
            return part, small
    raise ValueError(f"no position for a lesion in a brain with half axes {head.brain.half_mm} mm")


def _draw_part(head: Head, radius_mm: float, lobes: int, at_end: bool, rng: np.random.Generator) -> Part:
    """An ellipsoid in the brain, or through the last slice, with lobes centred inside it."""
    least = 1.6 * head.grid.voxel_mm[0]  # half axis that reaches three slices
    half = radius_mm * rng.uniform(0.8, 1.25, 3)
    centre = rng.uniform(-0.8, 0.8, 3) * np.array(head.brain.half_mm) + np.array(head.brain.centre_mm)
    if at_end:
        centre[0] = head.grid.size_mm[0] - rng.uniform(0.2, 0.9) * half[0]
    turn = float(rng.uniform(0, 180))
    bodies = [Ellipsoid(_floats(centre), _floats([max(half[0], least), *half[1:]]), turn)]
    for _ in range(lobes):
        ray = rng.normal(size=3)
        lobe = centre + 0.85 * half.min() * ray / np.linalg.norm(ray)
        size = radius_mm * rng.uniform(0.5, 0.85, 3)
        bodies.append(Ellipsoid(_floats(lobe), _floats(size), float(rng.uniform(0, 180))))
    return tuple(bodies)


def _is_placed(region: np.ndarray, brain_level: np.ndarray, at_end: bool) -> bool:
    """Whether a region is inside the brain, in at least three slices, and in the last one only if it should be."""
    slices, last = np.flatnonzero(region.any(axis=(1, 2))), len(region) - 1
    if len(slices) < 3 or slices[0] < 2 or brain_level[region].max() > 0.97:
        return False
    return bool(slices[-1] == last and region[last].sum() >= 8 if at_end else slices[-1] < last - 1)


def _render(head: Head, kind: Kind, parts: tuple[Part, ...], rng: np.random.Generator) -> np.ndarray:
    """Grey values of all sequences: (slices, rows, cols, 3) uint8."""
    signal = _tissue(head, rng)
    _add_lesion(signal, head.grid, kind, parts, rng)
    signal = np.stack([cv2.GaussianBlur(image, (0, 0), 0.55) for image in signal])  # in-plane only, as for thin slices
    signal *= _bias(head.grid, rng) * np.array(kind.site.gains, np.float32) * rng.uniform(0.88, 1.12, 3)
    noise = rng.normal(0, kind.site.noise, (2, *signal.shape)).astype(np.float32)
    grey = np.hypot(signal + noise[0], noise[1]) * 255  # Rician noise of magnitude images
    image = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    if kind.emptied:
        image[: int(rng.integers(1, 3)), ..., int(rng.integers(0, 3))] = 0
    for channel in kind.replaced:
        image[..., channel] = image[..., FLAIR]
    return image


def _tissue(head: Head, rng: np.random.Generator) -> np.ndarray:
    """A head without a lesion: (slices, rows, cols, 3) float32, 0 to 1."""
    grid, brain = head.grid, head.brain.level(head.grid)
    signal = np.zeros((*grid.shape, 3), np.float32)
    for mm, tissue in ((head.scalp_mm, SCALP), (0.0, BONE), (-head.bone_mm, FLUID)):
        body = Ellipsoid(head.skull.centre_mm, _floats(np.array(head.skull.half_mm) + mm), head.skull.turn_deg)
        signal[body.level(grid) <= 1] = tissue
    folds = _texture(grid, rng, (14.0, 40.0))
    signal[brain <= 1] = GREY_MATTER
    signal[(brain <= 1) & (brain + 0.16 * folds < 0.78)] = WHITE_MATTER
    signal += (0.03 * _texture(grid, rng, (9.0, 25.0)) * (brain <= 1))[..., None]
    signal[part_level(head.spots, grid) <= 1] = SPOT
    ventricles = part_level(head.ventricles, grid)
    signal[..., FLAIR] += CAP_FLAIR * np.clip(1.6 - ventricles, 0, 0.6) / 0.6 * (brain <= 1)
    signal[(ventricles <= 1) & (brain <= 1)] = FLUID
    signal[part_level(head.fat, grid) <= 1] = FAT
    signal[head.sinus.level(grid) <= 1] = SINUS
    return signal


def _add_lesion(signal: np.ndarray, grid: Grid, kind: Kind, parts: tuple[Part, ...], rng: np.random.Generator) -> None:
    """Draws a lesion into `signal`: bright on FLAIR, dark before contrast, often with a bright rim after it."""
    bright = float(rng.uniform(0.05, 0.09) if kind.faint else rng.uniform(0.2, 0.36))
    rim = float(rng.uniform(0.15, 0.4)) * (rng.random() < 0.7)
    margin, uneven = float(rng.uniform(0.05, 0.4)), 0.03 * _texture(grid, rng, (12.0, 30.0))
    for part in parts:
        level = part_level(part, grid)
        share = np.clip(0.5 + (1 - level) / margin, 0, 1)[..., None].astype(np.float32)  # half at the border
        lesion = np.broadcast_to(np.array(LESION, np.float32), signal.shape).copy()
        lesion[..., FLAIR] += bright + uneven
        lesion[..., POST] += rim * (level > 0.7)
        signal += share * (lesion - signal)


def _bias(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Smooth coil sensitivity per sequence, near 1: (slices, rows, cols, 3) float32."""
    axes = [2 * axis / max(size, 1e-9) - 1 for axis, size in zip(grid.coordinates_mm, grid.size_mm)]
    fields = []
    for _ in range(3):
        slope, bend = rng.uniform(-0.08, 0.08, 3), rng.uniform(-0.1, 0.04, 3)
        fields.append(1 + sum(s * axis + b * axis**2 for s, b, axis in zip(slope, bend, axes)))
    return np.stack(fields, axis=-1).astype(np.float32)


def _texture(grid: Grid, rng: np.random.Generator, waves_mm: tuple[float, float]) -> np.ndarray:
    """Smooth random field of mean 0 and standard deviation 1: plane waves of lengths `waves_mm` in all directions."""
    field = np.zeros(grid.shape, np.float32)
    count = 12
    for _ in range(count):
        ray = rng.normal(size=3)
        ray *= 2 * np.pi / rng.uniform(*waves_mm) / np.linalg.norm(ray)
        slices, rows, cols = (np.exp(1j * wave * axis) for wave, axis in zip(ray, grid.coordinates_mm))
        field += (np.exp(1j * rng.uniform(0, 2 * np.pi)) * slices * rows * cols).real.astype(np.float32)
    return field * np.float32(np.sqrt(2 / count))
