import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.imaging import mask_files
from tests.builders import read_or_none


def classes(*shape):
    return np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)


def test_an_image_s_mask_is_a_png_and_a_volume_s_a_tiff_below_stage_and_run():
    path = mask_files.mask_path(Path("predictions"), "post", 2, 7, "a b.c", is_volume=False)
    assert path == Path("predictions/post/fold2-seed7/a b.c.png")
    assert mask_files.mask_path(Path("p"), "raw", 0, 1, "A", is_volume=True) == Path("p/raw/fold0-seed1/A.tif")


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (2, 5, 7), (30, 64, 48)], ids=str)
def test_a_mask_comes_back_as_it_was_written_last(tmp_path, shape):
    path = mask_files.mask_path(tmp_path / "predictions", "raw", 0, 0, "a", is_volume=len(shape) == 3)
    mask_files.write(path, classes(*shape[:-2], 90, 90))
    mask_files.write(path, classes(*shape))
    mask = mask_files.read(path)
    assert np.array_equal(mask, classes(*shape))
    assert mask.dtype == np.uint8
    assert list(path.parent.iterdir()) == [path]
    with Image.open(path) as image:  # one page per slice, class indices as grey values
        assert (getattr(image, "n_frames", 1), image.mode) == (len(mask) if mask.ndim == 3 else 1, "L")
        assert np.array_equal(np.asarray(image), mask[0] if mask.ndim == 3 else mask)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("shape", [(50, 70), (3, 50, 70)], ids=str)
def test_with_the_names_of_its_classes_a_mask_is_seen_in_their_colours_and_read_as_the_same_indices(
    tmp_path, shape, count
):
    names, mask = ["background", "head", "csp", "lv"][:count], classes(*shape) % count
    path = mask_files.mask_path(tmp_path, "post", 0, 0, "a", is_volume=len(shape) == 3)
    mask_files.write(path, mask, names)
    assert np.array_equal(mask_files.read(path), mask)
    seen = [(0, 0, 0), (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00), (0xCC, 0x79, 0xA7)]  # as in every figure
    with Image.open(path) as image:
        for number, page in enumerate(np.reshape(mask, (-1, 50, 70))):
            image.seek(number)
            assert np.array_equal(np.asarray(image.convert("RGB")), np.array(seen, np.uint8)[page])


def test_a_mask_saved_in_colours_by_another_program_is_refused(tmp_path):
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as an image: mode RGB; expected class indices"):
        mask_files.read(tmp_path / "a.png")


@pytest.mark.parametrize(("name", "shape"), [("a.png", (50, 70)), ("a.tif", (4, 50, 70))])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, name, shape):
    mask_files.write(tmp_path / name, classes(*shape))
    save = Image.Image.save

    def fail(image, file, **options):
        save(image, file, **options)
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        mask_files.write(tmp_path / name, np.zeros(shape, np.uint8))
    assert np.array_equal(mask_files.read(tmp_path / name), classes(*shape))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_file_that_is_missing_empty_or_no_image_is_named(tmp_path, name):
    for content in (None, b"", b"no image"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: cannot be read as"):
            mask_files.read(tmp_path / name)


@pytest.mark.filterwarnings("ignore")  # Pillow's, before it gives up
def test_a_volume_s_file_cut_anywhere_is_refused_or_whole_and_one_changed_byte_loses_no_page(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # no memory for a changed size
    path, mask = tmp_path / "a.tif", classes(3, 5, 7)
    mask_files.write(path, mask)
    whole = path.read_bytes()
    for length in range(len(whole)):
        cut = read_or_none(mask_files.read, path, whole[:length])
        assert cut is None or np.array_equal(cut, mask), length
    for offset, bits in itertools.product(range(len(whole)), (0x01, 0x08, 0xFF)):
        content = whole[:offset] + bytes([whole[offset] ^ bits]) + whole[offset + 1 :]
        changed = read_or_none(mask_files.read, path, content)
        assert changed is None or len(changed) == 3, offset
