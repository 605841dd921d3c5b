import numpy as np
import pytest
from PIL import Image

from lib.datasets import mask_classes, own
from tests.builders import save_png

# 24 x 24 pixels of three classes, each more than 3 x 3 pixels.
INDICES = np.kron(np.array([[0, 1], [2, 0]], np.uint8), np.ones((12, 12), np.uint8))
HALF, CORNER = np.minimum(INDICES, 1), INDICES // 2  # half and a quarter are foreground
RED = [255, 0, 0]


def infer(folder, *masks, suffix="png"):
    """Classes of mask files with these pixels, each of which `own.read_mask` reads with them."""
    paths = [save_png(folder / f"{number}.{suffix}", mask) for number, mask in enumerate(masks)]
    return mask_classes.infer(paths)


def grey(*values):
    return [[value] * 3 for value in values]


@pytest.mark.parametrize(
    ("masks", "palette", "values", "counts"),
    [
        ([HALF * 255, HALF * 255], [], ["0", "255"], [2, 2]),
        ([HALF, HALF * 0], [], ["0", "1"], [2, 1]),
        ([HALF, HALF * 255, HALF * 255, HALF], [], ["0", "1 or 255"], [4, 4]),
        ([np.dstack([HALF * 255] * 3)] * 2, [], ["0", "255"], [2, 2]),
        ([HALF * 0] * 2, [], ["0", "255"], [2, 0]),
        ([INDICES, HALF, INDICES], [], ["0", "1", "2"], [3, 3, 2]),
        ([INDICES * 2] * 2, grey(0, 2, 4), ["0", "2", "4"], [2, 2, 2]),
        ([INDICES * 127] * 2, grey(0, 127, 254), ["0", "127", "254"], [2, 2, 2]),
        ([HALF * 128] * 2, grey(0, 128), ["0", "128"], [2, 2]),
        ([np.array([[9] * 3, RED], np.uint8)[CORNER]] * 2, [[9] * 3, RED], ["(9, 9, 9)", "(255, 0, 0)"], [2, 2]),
        ([np.array([[0, 0, 0], [0, 0, 255], RED], np.uint8)[INDICES]], [[0, 0, 0], [0, 0, 255], RED], None, [1, 1, 1]),
    ],
)
def test_classes_and_palette_are_those_with_which_the_masks_are_read(tmp_path, masks, palette, values, counts):
    found = infer(tmp_path, *masks)
    assert (found.palette, found.masks, found.total) == (palette, counts, len(masks))
    assert values is None or found.values == values
    assert found.names[:2] == ["background", "structure" if len(found.names) == 2 else "structure_1"]
    expected = INDICES if len(counts) == 3 else HALF if palette[:1] != [[9] * 3] else CORNER
    read = own.read_mask([tmp_path / "0.png"], found.palette, len(found.names))
    assert np.array_equal(read, expected if masks[0].any() else 0 * expected)
    assert found.median_size == INDICES.shape


def test_what_a_class_is_called_and_from_what_it_was_inferred(tmp_path):
    assert infer(tmp_path, HALF, HALF).source == "2 masks: grey values 0 and 1"
    found = infer(tmp_path, INDICES, INDICES, HALF)
    assert found.source == "3 masks: grey values 0, 1 and 2"
    assert found.table().to_numpy().tolist() == [
        ["background", "0", 3],
        ["structure_1", "1", 3],
        ["structure_2", "2", 2],
    ]


def test_smoothed_edges_and_a_value_in_a_single_mask_are_no_classes(tmp_path):
    smooth = np.asarray(Image.fromarray(HALF * 255).resize((48, 48), Image.Resampling.BILINEAR))
    assert len(np.unique(smooth)) > 2
    assert infer(tmp_path, smooth, smooth, smooth).values == ["0", "255"]
    stray = HALF * 255
    stray[14:20, 2:8] = 7
    assert infer(tmp_path, *[HALF * 255] * 9, stray).values == ["0", "255"]
    assert infer(tmp_path, *[HALF * 255] * 9, stray, stray).values == ["0", "7", "255"]
    paths = [tmp_path / "0.png"] * 248 + [tmp_path / "9.png"] * 2  # 2 of 250 are less than 1 %
    assert mask_classes.infer(paths).values == ["0", "255"]
    assert mask_classes.infer([*paths, paths[-1]]).values == ["0", "7", "255"]


def test_outlines_without_an_area_are_a_class_too(tmp_path):
    line = np.zeros((24, 24), np.uint8)
    line[5, 3:20] = 255
    assert infer(tmp_path, line, line).values == ["0", "255"]
    assert infer(tmp_path, line // 2, line * 0, line * 0).values == ["0", "127"]


def with_line(pixels, value, column=5):
    drawn = pixels.copy()
    drawn[3:20, column] = value
    return drawn


@pytest.mark.parametrize(
    ("masks", "values"),
    [
        ([with_line(HALF * 255, 128)] * 3, ["0", "128", "255"]),  # a needle in the background and in the structure
        ([with_line(HALF * 255, 128), HALF * 255, HALF * 255], ["0", "255"]),  # in a third of the masks
        ([with_line(HALF, 2), HALF, HALF], ["0", "1", "2"]),  # class indices
        ([with_line(HALF * 255, 128, column=12)] * 3, ["0", "255"]),  # between black and white, as smoothed
        (
            [with_line(np.array([[0] * 3, RED], np.uint8)[HALF], [0, 255, 0])] * 2,
            ["(0, 0, 0)", "(0, 255, 0)", "(255, 0, 0)"],
        ),
        ([with_line(with_line(HALF * 255, 128), 3, n) for n in (9, 8)], ["0", "3", "128", "255"]),
    ],
)
def test_a_class_of_thin_lines_is_told_from_smoothed_edges(tmp_path, masks, values):
    assert infer(tmp_path, *masks).values == values


def test_jpeg_masks_count_only_if_all_are_and_colours_need_exact_values(tmp_path):
    for number in range(2):
        save_png(tmp_path / f"{number}.jpg", HALF * 255)
    assert mask_classes.infer(sorted(tmp_path.glob("*.jpg"))).source == "2 masks: grey values below 128 and 128 to 255"
    assert infer(tmp_path / "more", INDICES, INDICES).values == ["0", "1", "2"]
    both = [tmp_path / "0.jpg", tmp_path / "more" / "0.png", tmp_path / "more" / "1.png"]
    assert mask_classes.infer(both).total == 2
    with pytest.raises(ValueError, match="red: JPEG masks in colours, whose values JPEG changes; expected PNG"):
        infer(tmp_path / "red", np.array([[0, 0, 0], RED], np.uint8)[HALF], suffix="jpg")


def test_too_many_values_and_unreadable_masks_are_refused_by_folder(tmp_path):
    shades = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4, np.ones((3, 3), np.uint8))
    with pytest.raises(
        ValueError, match=f"{tmp_path}: the masks have 64 different values; expected at most 32 classes"
    ):
        infer(tmp_path, shades, shades)
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(ValueError, match=r"none of 1 masks can be read; the first: a\.png: cannot be read as an image"):
        mask_classes.infer([tmp_path / "a.png"])
    assert mask_classes.infer([tmp_path / "a.png", save_png(tmp_path / "b.png", HALF)]).total == 1
