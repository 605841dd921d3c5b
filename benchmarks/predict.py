"""Speed of `python -m lib predict` on images of HC18: python -m benchmarks.predict [MODEL] [IMAGES]

CPU time and time by the clock per image, one after another in ROUNDS rounds: the networks alone in batches of images in
memory, the whole command (reading, predicting, measuring, drawing, writing), and a plain loop that does the same image
by image with Pillow, SciPy and matplotlib. Then milliseconds from a mask to its measurements, and seconds of a command
of one image. MODEL is as for predict, hc18_quick by default (weights/hc18: five networks); IMAGES is 100 by default, of
which the plain loop takes a tenth.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from lib.evaluation import biometry
from lib.imaging import ellipse, preparation
from lib.models import inference
from lib.models.trained_model import Model
from lib.prediction import command, ensemble
from lib.study import environment, files

ROUNDS, REPEATS, BATCH = 3, 20, 16
SHAPE, SPACING_MM = (540, 800), (0.15, 0.15)
HEAD = ellipse.Ellipse((270, 400), 640, 470, 10)  # on the largest HC18 images heads are about as large
LIMITS = (1.7, [40.0, 400.0])


def main() -> None:
    """Prints one line per measurement."""
    model = sys.argv[1] if len(sys.argv) > 1 else "hc18_quick"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    environment.use_threads()
    folder = files.raw_folder("hc18") / "training_set"
    images = sorted(folder.glob("*HC.png"))[:count]
    if not images:
        sys.exit(f"{folder}: no images *HC.png; 'make study STUDY=hc18_quick DATA=...' links the data set there")
    members = ensemble.load(model, "cpu").members
    prepared = np.concatenate([_prepared(members[0], path) for path in images[: 4 * BATCH]])
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        ways: dict[str, tuple[int, Callable[[], None]]] = {
            "networks alone, batched": (len(prepared), lambda: _networks(members, prepared)),
            "predict": (len(images), lambda: _command(model, images, out / "answers")),
            "plain loop": (len(images[::10]), lambda: _plain(members, images[::10], out)),
        }
        taken = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, (number, way) in ways.items():
                taken[name].append(_ms(way) / number)
        for at, clock in enumerate(("of CPU time", "by the clock")):
            of_clock = {name: np.array(values)[:, at] for name, values in taken.items()}
            for name, ms in of_clock.items():
                print(f"{name}: {np.median(ms):.1f} ms {clock} per image ({ms.min():.1f} to {ms.max():.1f})")
            for other in ("networks alone, batched", "plain loop"):
                ratios = of_clock[other] / of_clock["predict"]
                print(f"{other} / predict: {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}), {clock}")
        print(f"mask to measurements, 540 x 800: {_measuring_ms():.2f} ms on one core (goal < 3)")
        _print_first(model, images[0], out / "first")


def _ms(work: Callable[[], None]) -> np.ndarray:
    """CPU time of all threads and time by the clock, (2,) ms."""
    before = np.array([time.process_time(), time.perf_counter()])
    work()
    return 1e3 * (np.array([time.process_time(), time.perf_counter()]) - before)


def _prepared(member: Model, path: Path) -> np.ndarray:
    return preparation.prepare(np.asarray(Image.open(path).convert("L")), member.preparation).images


def _networks(members: Sequence[Model], images: np.ndarray) -> None:
    """The forward passes alone, in batches as `inference.predict` would make of them."""
    with torch.inference_mode():
        step = BATCH // 2 if members[0].flip_average else BATCH
        for first in range(0, len(images), step):
            inputs = inference.to_input(images[first : first + step], members[0].device)
            inputs = torch.cat([inputs, inputs.flip(3)]) if members[0].flip_average else inputs
            for member in members:
                member.network(inputs)


def _command(model: str, images: list[Path], out: Path) -> None:
    command.run(model, images, out, str(SPACING_MM[0]), None, "cpu", "model", False, lambda _: None)


def _plain(members: Sequence[Model], images: list[Path], out: Path) -> None:
    """Image by image as one would write it first, from the file to mask, measurements and picture."""
    size = tuple(members[0].preparation["image_size"])
    for path in images:
        image = np.asarray(Image.open(path).convert("L"))
        small = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR), np.float32)
        inputs = torch.from_numpy((small - preparation.GREY[0]) / preparation.GREY[1])[None, None]
        with torch.no_grad():
            each = [torch.sigmoid(member.network(inputs)) for member in members]
            each += [torch.sigmoid(member.network(inputs.flip(3))).flip(3) for member in members]
        probability = Image.fromarray(torch.cat(each).mean(dim=0)[0].numpy())
        region = np.asarray(probability.resize(image.shape[::-1], Image.Resampling.BILINEAR)) >= 0.5
        labels, number = ndimage.label(region)
        sizes = ndimage.sum_labels(region, labels, range(1, number + 1))
        region = ndimage.binary_fill_holes(labels == 1 + np.argmax(sizes)) if number else region
        lengths = biometry.axes_of(region, SPACING_MM)
        Image.fromarray(region.astype(np.uint8) * 255).save(out / f"{path.stem}_mask.png")
        figure, axes = plt.subplots(figsize=(8, 5.4))
        axes.imshow(image, cmap="gray")
        axes.contour(region, [0.5], colors="red")
        axes.set_title(f"OFD {lengths.get('ofd_mm', np.nan):.1f} mm, BPD {lengths.get('bpd_mm', np.nan):.1f} mm")
        figure.savefig(out / f"{path.stem}.png", dpi=100)
        plt.close(figure)


def _measuring_ms() -> float:
    """Edge, ellipse, BPD, OFD, HC and flags of a filled head; median of REPEATS."""
    region = ellipse.fill_ellipse(HEAD, SHAPE)
    taken = []
    for _ in range(REPEATS):
        before = time.thread_time()
        biometry.measure({"route": "ellipse"} | biometry.axes_of(region, SPACING_MM), *LIMITS)
        taken.append(1e3 * (time.thread_time() - before))
    return float(np.median(taken))


def _print_first(model: str, image: Path, out: Path) -> None:
    """CPU time and time by the clock of a command of one image, from its start to its end."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    line = [sys.executable, "-m", "lib", "predict", model, str(image), "--out", str(out), "--device", "cpu"]
    subprocess.run(line, cwd=files.ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"one image, whole command: {used:.1f} s of CPU time, {time.perf_counter() - started:.1f} s by the clock")


if __name__ == "__main__":
    main()
