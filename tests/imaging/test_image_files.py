import io
import unicodedata
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lib.imaging import image_files
from tests.builders import ellipse_region, save_png

GREY = np.array([[0, 10, 255], [7, 128, 3]], np.uint8)
PALETTE = {(255, 0, 0): 1, (0, 255, 0): 2}
REGION = np.array([[0, 1, 1], [0, 1, 0]], bool)


def encoded(pixels, kind):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


# Reading images


def test_pixels_come_back_as_stored(tmp_path):
    assert np.array_equal(image_files.read_pixels(save_png(tmp_path / "a.png", GREY)), GREY)


def test_equal_channels_give_the_channel_itself(tmp_path):
    path = save_png(tmp_path / "a.png", np.repeat(GREY[..., None], 3, axis=2))
    assert np.array_equal(image_files.read_grey(path), GREY)


def test_colour_is_turned_grey_by_the_luma_of_rec_601(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]], np.uint8)
    expected = [[76, 150, 29, 226]]  # 0.299, 0.587, 0.114 and 0.886 of 255, rounded
    assert image_files.read_grey(save_png(tmp_path / "a.png", colours)).tolist() == expected


def test_transparency_is_left_out(tmp_path):
    rgba = np.dstack([GREY, GREY, GREY, np.zeros_like(GREY)])
    assert np.array_equal(image_files.read_grey(save_png(tmp_path / "rgba.png", rgba)), GREY)
    grey_alpha = np.dstack([GREY, np.zeros_like(GREY)])
    assert np.array_equal(image_files.read_grey(save_png(tmp_path / "la.png", grey_alpha)), GREY)


def test_a_one_bit_image_reads_as_0_and_255(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    assert image_files.read_grey(tmp_path / "a.png").tolist() == [[0, 0, 255], [0, 255, 0]]


def test_an_image_with_a_palette_reads_as_its_colours(tmp_path):
    Image.fromarray(np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8)).quantize(4).save(tmp_path / "a.png")
    assert image_files.read_pixels(tmp_path / "a.png").tolist() == [[[255, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize("kind", ["<i4", "<f4"])
def test_more_than_8_bits_are_refused_by_name(tmp_path, kind):
    path = tmp_path / "deep.tif"
    Image.fromarray(GREY.astype(kind)).save(path)
    with pytest.raises(ValueError, match=r"deep\.tif: mode .*; expected 8 bits a channel"):
        image_files.read_pixels(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_a_channel_are_refused_by_name_and_never_cut_to_8(tmp_path, channels, suffix):
    path = tmp_path / f"deep.{suffix}"
    cv2.imwrite(str(path), np.full((2, 3, channels), 51_234, np.uint16))  # Pillow reads 200 where there are colours
    for read in (image_files.read_pixels, image_files.read_grey, image_files.read_binary):
        with pytest.raises(ValueError, match=rf"deep\.{suffix}: .*; expected 8 bits a channel"):
            read(path)


def test_a_cmyk_image_reads_as_its_colours(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    pixels = image_files.read_pixels(tmp_path / "a.jpg")
    assert pixels.shape == (16, 16, 3)
    assert abs(pixels.astype(int) - [255, 0, 0]).max() <= 4  # of JPEG


def test_a_link_to_itself_is_no_image(tmp_path):
    path = tmp_path / "loop.png"
    path.symlink_to(path)
    for read in (image_files.read_pixels, image_files.read_grey, image_files.read_binary):
        with pytest.raises(ValueError, match=r"loop\.png: cannot be read as an image"):
            read(path)


@pytest.mark.parametrize("name", ["größe (2) ünder.png", "頭部 1.PNG", "a b  c.jpeg", "α'β\"γ.bmp", "x.y.z.tif"])
def test_names_with_blanks_brackets_and_any_letters_are_read(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name)
    assert image_files.read_pixels(tmp_path / name).shape == GREY.shape
    assert list(image_files.by_stem(tmp_path)) == [name.rpartition(".")[0]]


@pytest.mark.parametrize("content", [b"", b"this is text", b"\x89PNG\r\n\x1a\n", None])
def test_what_is_no_image_is_refused_by_name(tmp_path, content):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as an image"):
        image_files.read_pixels(path)


def test_an_image_of_more_pixels_than_fit_is_refused_by_name(tmp_path):
    path = save_png(tmp_path / "vast.png", np.zeros((1, 1), np.uint8))
    whole = bytearray(path.read_bytes())
    whole[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    path.write_bytes(bytes(whole))
    with pytest.raises(ValueError, match=r"vast\.png: cannot be read as an image"):
        image_files.read_pixels(path)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(ValueError, match="cannot be read as an image"):
        image_files.read_pixels(tmp_path)


def refusal(path):
    """The message with which an image is refused, "" where it is read."""
    try:
        image_files.read_pixels(path)
    except ValueError as error:
        return str(error)
    return ""


def test_a_png_cut_anywhere_is_refused_or_has_lost_no_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 15)).astype(np.uint8)
    whole, path = encoded(pixels, "PNG"), tmp_path / "cut.png"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        lost_nothing = length > len(whole) - 24  # what follows the last pixel: two checksums and the end mark
        assert str(path) in refusal(path) or (lost_nothing and np.array_equal(image_files.read_pixels(path), pixels))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "BMP"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_with_any_byte_changed_raises_nothing_but_value_errors(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # no room for what a changed size would take
    whole, path = encoded(np.arange(200, dtype=np.uint8).reshape(10, 20), kind), tmp_path / "spoilt"
    for place in range(len(whole)):
        spoilt = bytearray(whole)
        spoilt[place] ^= 0xFF
        path.write_bytes(bytes(spoilt))
        message = refusal(path)
        assert not message or str(path) in message


# Masks of two values


def in_mode(values, mode):
    """A grey image in one of Pillow's modes; transparency is that of the opposite of the values."""
    image = Image.fromarray(values)
    if mode not in ("LA", "RGBA"):
        return image.convert(mode)
    image = image.convert(mode)
    image.putalpha(Image.fromarray(255 - values))
    return image


MODES = [(mode, suffix) for suffix in ("png", "tif", "bmp") for mode in ("1", "L", "P", "LA", "RGB", "RGBA")]


@pytest.mark.parametrize(("mode", "suffix"), [each for each in MODES if each != ("LA", "bmp")])  # there is no such BMP
def test_a_mask_of_0_and_255_is_read_whatever_its_mode(tmp_path, mode, suffix):
    path = tmp_path / f"m.{suffix}"
    in_mode(REGION.astype(np.uint8) * 255, mode).save(path)
    found = image_files.read_binary(path)
    assert found.dtype == bool
    assert np.array_equal(found, REGION)


@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA"])
def test_a_mask_of_0_and_1_is_read_as_that_of_0_and_255(tmp_path, mode):
    in_mode(REGION.astype(np.uint8), mode).save(tmp_path / "m.png")
    assert np.array_equal(image_files.read_binary(tmp_path / "m.png"), REGION)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)], ids=str)
def test_a_region_drawn_in_one_colour_counts(tmp_path, colour):
    path = save_png(tmp_path / "m.png", REGION[..., None] * np.array(colour, np.uint8))
    assert np.array_equal(image_files.read_binary(path), REGION)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_mask_of_one_value_is_empty_or_full(tmp_path, value):
    path = save_png(tmp_path / "m.png", np.full((3, 4), value, np.uint8))
    assert (image_files.read_binary(path) == (value > 0)).all()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([0, 128, 255], "[0, 128, 255]"),
        ([0, 1, 255], "[0, 1, 255]"),
        ([0, 128], "[0, 128]"),
        ([254, 255], "[254, 255]"),
        ([2], "[2]"),
        (list(range(0, 100, 10)), "[0, 10, 20, 30, 40, 50, 60, 70]"),
    ],
    ids=str,
)
def test_other_values_are_refused_and_named(tmp_path, values, named):
    path = save_png(tmp_path / "m.png", np.array([values], np.uint8))
    with pytest.raises(ValueError, match="expected a mask of 0 and 255, or 0 and 1") as caught:
        image_files.read_binary(path)
    assert str(caught.value).startswith(f"{path}: values {named};")


@pytest.mark.parametrize("suffix", ["jpg", "JPEG"])
def test_a_lossy_mask_counts_from_128(tmp_path, suffix):
    rows, cols = np.ogrid[:64, :80]
    disc = (rows - 30) ** 2 + (cols - 41) ** 2 <= 20**2
    path = tmp_path / f"m.{suffix}"
    Image.fromarray(disc.astype(np.uint8) * 255).save(path, format="JPEG", quality=75)
    assert len(np.unique(image_files.read_pixels(path))) > 2
    assert (image_files.read_binary(path) != disc).sum() <= 12  # some of the edge's 113 pixels


def test_a_mask_may_be_read_by_a_reader_that_keeps_what_it_read(tmp_path):
    path = save_png(tmp_path / "m.png", REGION.astype(np.uint8) * 255)
    kept = {}
    found = image_files.read_binary(path, read=lambda p: kept.setdefault(p, image_files.read_pixels(p)))
    assert np.array_equal(found, REGION)
    assert list(kept) == [path]


def test_which_formats_are_lossy():
    lossy = {
        name: image_files.is_lossy(Path(name)) for name in ("a.jpg", "a.JPG", "a.b.Jpeg", "a.png", "jpg", "a.jpg.png")
    }
    assert lossy == {"a.jpg": True, "a.JPG": True, "a.b.Jpeg": True, "a.png": False, "jpg": False, "a.jpg.png": False}


# Files of a folder


def test_image_files_are_found_by_stem_whatever_the_case_of_their_suffix(tmp_path):
    names = ["b.PNG", "a.Jpg", "c.jpeg", "d.BMP", "e.tif", "f.TIFF", "notes.txt", "table.csv", ".g.png", "._a.Jpg", "h"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "deep.png").write_bytes(b"")
    found = image_files.by_stem(tmp_path)
    assert {stem: path.name for stem, path in found.items()} == dict(zip("abcdef", ["a.Jpg", "b.PNG", *names[2:6]]))
    assert list(found) == sorted(found)


def test_a_decomposed_name_has_a_composed_stem_and_keeps_its_file(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "größe é") for form in ("NFC", "NFD"))
    assert composed != decomposed
    (tmp_path / f"{decomposed}.png").write_bytes(b"")
    ((stem, path),) = image_files.by_stem(tmp_path).items()
    assert stem == composed
    assert path.is_file()


@pytest.mark.parametrize(
    "names", [("a.png", "a.jpg"), ("a.png", "a.PNG"), ("\u00e9.png", "e\u0301.png")], ids=["format", "case", "form"]
)
def test_two_files_of_one_stem_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system takes both names for one")
    with pytest.raises(ValueError, match="expected one file of a name") as caught:
        image_files.by_stem(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert all(name in str(caught.value) for name in names)


def test_a_folder_that_is_not_there_holds_no_images(tmp_path):
    assert image_files.by_stem(tmp_path / "nowhere") == {}


# Colours to classes


def test_colours_are_counted():
    pixels = np.array([[[0, 0, 0], [255, 0, 1]], [[0, 0, 0], [0, 0, 0]]], np.uint8)
    assert image_files.colour_counts(pixels) == {(0, 0, 0): 3, (255, 0, 1): 1}
    assert image_files.colour_counts(np.dstack([pixels, GREY[:, :2]])) == {(0, 0, 0): 3, (255, 0, 1): 1}


def test_grey_values_are_counted_and_transparency_left_out():
    values = np.array([[3, 3, 0], [255, 3, 0]], np.uint8)
    assert image_files.colour_counts(values) == {(0,): 2, (3,): 3, (255,): 1}
    assert image_files.colour_counts(np.dstack([values, GREY])) == {(0,): 2, (3,): 3, (255,): 1}
    assert image_files.colour_counts(values.T) == {(0,): 2, (3,): 3, (255,): 1}


@pytest.mark.parametrize("colour", [(0, 0, 0), (1, 2, 3), (255, 255, 255), (255, 0, 1)], ids=str)
def test_a_colour_s_number_gives_the_colour_back(colour):
    code = image_files.colour_codes(np.array([[colour]], np.uint8))[0, 0]
    assert code == colour[0] * 65536 + colour[1] * 256 + colour[2]
    assert image_files.colour_counts(np.array([[colour]], np.uint8)) == {colour: 1}


def test_colours_become_the_classes_of_the_palette():
    pixels = np.array([[[0, 0, 0], [255, 0, 0]], [[0, 255, 0], [255, 0, 0]]], np.uint8)
    decoded = image_files.decode_palette(pixels, PALETTE)
    assert decoded.tolist() == [[0, 1], [2, 1]]
    assert decoded.dtype == np.uint8


def test_transparency_does_not_change_a_colour_s_class():
    pixels = np.array([[[255, 0, 0, 0], [0, 255, 0, 255]]], np.uint8)
    assert image_files.decode_palette(pixels, PALETTE).tolist() == [[1, 2]]


def test_a_palette_may_give_black_a_class_of_its_own():
    assert image_files.decode_palette(np.zeros((1, 2, 3), np.uint8), {(0, 0, 0): 3}).tolist() == [[3, 3]]


def test_each_unknown_colour_is_counted():
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0] = (254, 0, 0)
    pixels[1, 0] = (1, 2, 3)
    with pytest.raises(ValueError, match="unknown colours") as caught:
        image_files.decode_palette(pixels, PALETTE)
    assert "(1, 2, 3) in 1 pixels, (254, 0, 0) in 3 pixels" in str(caught.value)
    assert "expected [(0, 0, 0), (0, 255, 0), (255, 0, 0)]" in str(caught.value)


def test_of_many_unknown_colours_five_are_named_and_the_others_counted():
    pixels = np.zeros((1, 9, 3), np.uint8)
    pixels[0, :, 2] = np.arange(9)  # black, and eight shades of blue
    with pytest.raises(ValueError, match="and 3 more; expected") as caught:
        image_files.decode_palette(pixels, PALETTE)
    assert str(caught.value).count("in 1 pixels") == 5


@pytest.mark.parametrize("pixels", [GREY, np.dstack([GREY, GREY])], ids=["grey", "grey and alpha"])
@pytest.mark.parametrize("lossy", [False, True])
def test_a_grey_mask_has_no_colours(pixels, lossy):
    with pytest.raises(ValueError, match=r"a mask of shape \(2, 3.*\); expected colours"):
        image_files.decode_palette(pixels, PALETTE, lossy)


def test_a_lossy_mask_takes_the_nearest_colour_of_equals_the_first():
    pixels = np.array([[[200, 30, 10], [20, 130, 0], [100, 20, 20], [127, 127, 0], [128, 128, 0]]], np.uint8)
    # To black, red and green, squared: (100, 20, 20) is 10,800 from black, 24,825 from red;
    # (127, 127, 0) is 32,258 from black and 32,513 from both others; (128, 128, 0) is nearer to red and green.
    assert image_files.decode_palette(pixels, PALETTE, lossy=True).tolist() == [[1, 2, 0, 0, 1]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 1), (4, 4), (7, 5)], ids=str)
def test_the_nearest_colour_is_that_of_numpy_whatever_the_shape(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 4)).astype(np.uint8)
    palette = {(0, 0, 0): 0, (255, 0, 0): 2, (0, 255, 0): 1, (0, 0, 255): 7, (90, 90, 90): 3}
    apart = [((pixels[..., :3].astype(int) - colour) ** 2).sum(axis=2) for colour in palette]
    expected = np.array(list(palette.values()))[np.argmin(apart, axis=0)]
    found = image_files.nearest_class(pixels, palette)
    assert np.array_equal(found, expected)
    assert found.dtype == np.uint8


def test_a_colour_mask_comes_back_from_jpeg_but_for_its_borders(tmp_path):
    truth = np.zeros((200, 300), np.uint8)
    truth[ellipse_region(truth.shape, (100, 150), 240, 160, 20)] = 1
    truth[ellipse_region(truth.shape, (90, 120), 60, 30, 70)] = 2
    truth[ellipse_region(truth.shape, (120, 190), 50, 40, 0)] = 3
    palette = {(255, 0, 0): 1, (0, 255, 0): 2, (0, 0, 255): 3}
    Image.fromarray(np.array([(0, 0, 0), *palette], np.uint8)[truth]).save(tmp_path / "m.jpg", quality=90)
    pixels = image_files.read_pixels(tmp_path / "m.jpg")
    with pytest.raises(ValueError, match="unknown colours"):
        image_files.decode_palette(pixels, palette)
    wrong = image_files.decode_palette(pixels, palette, lossy=True) != truth
    kernel = np.ones((5, 5), np.uint8)  # two pixels either way: colours are stored at half the size
    border = cv2.dilate(truth, kernel) != cv2.erode(truth, kernel)
    assert wrong.mean() < 0.01
    assert not (wrong & ~border).any()
