"""Speed of drawing and writing phantom frames on one core."""

import tempfile
import time
from pathlib import Path

from lib.datasets.phantoms import write_images

SUBJECTS = 30


def rows() -> list[dict[str, object]]:
    """Images per second of CPU time, including PNG writing."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        write_images.write_brain(Path(folder), SUBJECTS, seed=1)
        seconds = time.process_time() - started
        count = len(list(Path(folder).rglob("Patient*.png"))) // 2  # an image and a mask per frame
    return [
        {
            "what": "drawing and writing phantom frames of 270x400, one core",
            "bare": "",
            "ours": f"{count / seconds:.1f} images/s",
            "ratio": float("nan"),
            "spread": "",
            "goal": ">= 20 images/s",
        }
    ]
