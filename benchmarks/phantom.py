"""How fast phantom frames are drawn and written, on one core."""

import tempfile
import time
from pathlib import Path

from lib.datasets.phantoms import write_images

SUBJECTS = 30


def rows() -> list[dict[str, object]]:
    """Images per second of one core's own time, PNG writing included."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        write_images.write_brain(Path(folder), SUBJECTS, seed=1)
        seconds = time.process_time() - started
        count = len(list(Path(folder).rglob("Patient*.png"))) // 2  # an image and a mask each
    return [
        {
            "what": "phantom frames of 270x400 drawn and written, one core",
            "bare": "",
            "ours": f"{count / seconds:.1f} images/s",
            "ratio": float("nan"),
            "spread": "",
            "goal": ">= 20 images/s",
        }
    ]
