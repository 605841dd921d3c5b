"""Constants of the code that the report states in its methods.

Importing torch and albumentations takes seconds, so the defaults of theirs that training uses stand here (held to the
packages by a test), and constants of modules that import them are read from the source.
"""

import ast
from typing import Any

from lib.evaluation import quality
from lib.imaging import head_points, preparation, shapes
from lib.report.summaries import presence
from lib.statistics import conformal
from lib.study import provenance

DEFAULTS = {
    "betas": [0.9, 0.999],  # of Adam and AdamW
    "adam_epsilon": 1e-8,
    "one_cycle_start": 25,  # largest over first learning rate
    "one_cycle_end": 10000,  # first over last learning rate
    "plateau_threshold": 1e-4,
    "batch_norm_epsilon": 1e-5,
    "batch_norm_momentum": 0.1,
    "clahe_tiles": [8, 8],  # rows, columns
    "grey_levels": 255,  # largest grey value, of which a change of brightness is a fraction
}


def describe() -> dict[str, Any]:
    """All constants by name, as JSON values."""
    return DEFAULTS | {
        "grey": preparation.GREY,
        "dice_smoothing": of_source("lib.losses", "EPSILON"),
        "clahe_limit": list(of_source("lib.training.augmentation", "CLAHE_LIMIT")),
        "segnet_convolutions": list(of_source("lib.models.segnet", "COUNTS")),
        "segnet_multiples": list(of_source("lib.models.segnet", "MULTIPLES")),
        "resnet_decoder": list(of_source("lib.models.resnet_unet", "WIDTHS")),
        "least_reach_px": of_source("lib.imaging.heatmaps", "MIN_REACH_PX"),
        "peak_level": head_points.PEAK_LEVEL,
        "peak_reach": head_points.PEAK_REACH,
        "half_dice": presence.HALF,
        "sections": shapes.SECTIONS,
        "widest_sections": shapes.WIDEST,
        "unseen": quality.UNSEEN,
        "large_mm": quality.LARGE_MM,
        "referred_percent": round(100 * quality.REFERRED),
        "flag_level_percent": round(100 * quality.LEVEL),
        "fewest_flag_cases": quality.FEWEST,
        "interval_percent": round(100 * conformal.LEVEL),
    }


def of_source(module: str, name: str) -> Any:
    """A constant that a module of this project assigns as a literal; ValueError if there is none of this name."""
    path = provenance.module_file(module)
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path else []:
        if isinstance(node, ast.Assign) and [getattr(each, "id", "") for each in node.targets] == [name]:
            return ast.literal_eval(node.value)
    raise ValueError(f"{module}: assigns no literal to {name}")
