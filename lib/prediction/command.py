"""`python -m lib predict`: a model and files in, a folder of answers out."""

import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lib.models import trained_model
from lib.prediction import answers, ensemble, outputs, page, pixel_sizes
from lib.prediction.ensemble import Ensemble
from lib.prediction.inputs import Listing, Reading, Refusal, find
from lib.prediction.outputs import NOT_FOR_CLINICAL_USE, Written
from lib.prediction.picture import Picture
from lib.prediction.pixel_sizes import PixelSizes, Range
from lib.study import environment, files, provenance

TTA = {"on": True, "off": False, "model": None}  # None: as the study was evaluated
Say = Callable[[str], None]


def run(
    model: str,
    given: Sequence[Path],
    out: Path,
    pixel_size: str | None,
    pixel_table: Path | None,
    device: str,
    tta: str,
    with_maps: bool,
    say: Say,
) -> int:
    """Predicts every case below the given paths; 0 if all were predicted, 1 if some were refused (they are listed).

    ValueError, before anything is computed, for an unusable model, pixel size, table or output folder.
    """
    environment.use_threads()
    environment.keep_freed_memory()
    outputs.require_own(out)
    if pixel_size is not None and pixel_table is not None:
        raise ValueError("--pixel-size and --pixel-sizes are both given; expected one of them")
    loaded = ensemble.load(model, device, TTA[tta])
    sizes = PixelSizes()
    if pixel_size is not None:
        sizes = pixel_sizes.parse(pixel_size, limits_mm(loaded))
    elif pixel_table is not None:
        sizes = pixel_sizes.read_table(pixel_table, limits_mm(loaded))
    written, refused = answer(loaded, given, out, sizes, with_maps, say)
    counts = f"{len(written)} case{'s' * (len(written) != 1)}"
    counts += f", {len(refused)} refused (refused.csv)" if refused else ""
    say(f"{out}: {counts}; {NOT_FOR_CLINICAL_USE}")
    return int(bool(refused))


def limits_mm(loaded: Ensemble) -> Range:
    """Smallest and largest pixel size that is believed for the images of a model."""
    return pixel_sizes.limits_mm(bool(loaded.head) and not loaded.is_volume)


def answer(
    loaded: Ensemble, given: Sequence[Path], out: Path, sizes: PixelSizes, with_maps: bool, say: Say
) -> tuple[list[Written], list[Refusal]]:
    """Predicts every case below the given paths into the folder of answers `out`; what was predicted, and what not.

    ValueError, and nothing is written, if no case was predicted, or if a table of pixel sizes is of other images.
    """
    listing = find(given, loaded.is_volume, out)
    say(f"model {loaded.describe()}; inputs: {len(listing.sources)}" + (f"; {listing.note}" if listing.note else ""))
    reading = Reading(loaded.is_volume, loaded.about["preparation"]["channels"], sizes, limits_mm(loaded))
    with outputs.folder_of_answers(out) as folder, warnings.catch_warnings():
        # Of values in DICOM headers that do not conform; those that are used are checked.
        warnings.filterwarnings("ignore", module="pydicom")
        written, refused = _predict_all(loaded, listing, reading, folder, with_maps, say)
        if not written:
            raise ValueError(f"no case was predicted (inputs: {len(refused)}); nothing is written")
        _check_sizes(sizes, written)
        _write_summary(folder, loaded, written, refused)
    return written, refused


def _predict_all(
    loaded: Ensemble, listing: Listing, reading: Reading, folder: Path, with_maps: bool, say: Say
) -> tuple[list[Written], list[Refusal]]:
    """Predicts and writes case by case in threads, while the next files are read in this one.

    Images are never batched, so that no result depends on the others of a batch.
    """
    written: list[Written] = []
    refused = list(listing.refused)
    for each in refused:
        say(f"{each.file}: refused: {each.reason}")

    def predict(read: Picture | Refusal) -> Written | Refusal:
        if isinstance(read, Refusal):
            return read
        try:
            answer = answers.predict(loaded, read.pixels, read.spacing_mm)
            return outputs.write_case(folder, loaded, read, answer, with_maps)
        except ValueError as error:
            return Refusal(read.file, str(error))

    for result in trained_model.in_threads(predict, _read_all(listing, reading)):
        if isinstance(result, Refusal):
            refused.append(result)
            say(f"{result.file}: refused: {result.reason}")
        else:
            written.append(result)
            say(f"{result.case}  {result.line}")
    return written, refused


def _read_all(listing: Listing, reading: Reading) -> Iterator[Picture | Refusal]:
    """Every picture of the sources, which may hold several, or why there is none."""
    for source in listing.sources:
        pictures = reading.read(source)
        yield from [pictures] if isinstance(pictures, Refusal) else pictures


def _of_intervals(loaded: Ensemble) -> str:
    """What the intervals of the measurements are, or why there are none."""
    known = loaded.intervals
    if any(member.flip_average != member.about["flip_average"] for member in loaded.members):
        return "Intervals: none; the model was calibrated with the other setting of --tta"
    if set(known["error_per_root"].values()) == {None}:
        return f"Intervals: none; too few of the {known['subjects']} subjects on which it was calibrated were measured"
    ensemble = ", the widest of its models" if len(loaded.members) > 1 else ""
    return (
        f"Intervals in brackets: {100 * known['level']:.0f} %, calibrated on {known['subjects']} subjects that the "
        f"network was not trained on{ensemble}. They hold for images like those, and for each measurement by itself"
    )


def _check_sizes(sizes: PixelSizes, written: Sequence[Written]) -> None:
    """ValueError if a table of pixel sizes was given and names none of the cases: it is of other images."""
    used = any(row["calibration"] == sizes.source for each in written for row in each.rows["cases.csv"])
    if sizes.table and not used:
        names = ", ".join(list(sizes.table)[:3])
        raise ValueError(
            f"{sizes.source}: names none of the inputs; it has {names}, the inputs are {written[0].case}, …"
        )


def _write_summary(folder: Path, loaded: Ensemble, written: Sequence[Written], refused: Sequence[Refusal]) -> None:
    """The tables, the page and the record."""
    about = loaded.about
    tables = outputs.write_tables(folder, loaded, written, refused)
    flips = "averaged with the mirrored image" if loaded.members[0].flip_average else "of the image as it is"
    facts = [
        f"Model: {loaded.describe()}, trained on {about['dataset']} ({about['licence']}); predictions {flips}",
        f"Classes: {', '.join(about['classes'][1:])}"
        if not loaded.is_landmark
        else "Predicted: the endpoints of OFD and BPD",
        *([_about_flags(loaded)] if about["head_classes"] else []),
        f"Device: {loaded.members[0].device}",
    ]
    facts += [_of_intervals(loaded)] if loaded.head else []
    title = f"Predictions of {about['study']}"
    files.write_text(folder / page.NAME, page.page(title, facts, written, refused, tables))
    record = {
        "study": about["study"],
        "models": {name: member.about["checksum"] for name, member in zip(loaded.names, loaded.members)},
        "flip_average": loaded.members[0].flip_average,
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "processor": platform.machine(),
        "threads": environment.threads(),
        "use": NOT_FOR_CLINICAL_USE,
    }
    outputs.write_record(folder, record)


def _about_flags(loaded: Ensemble) -> str:
    """What the flags in square brackets mean, and whether the model has limits for them."""
    if not loaded.limits:
        return "Flags in [brackets]: those of the study file; too few validation cases gave no other limits"
    return "Flags in [brackets] say why a head can be trusted less; their limits were chosen on validation cases"
