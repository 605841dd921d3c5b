import io
import re
import unicodedata
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lib.imaging import image_files
from tests.builders import ellipse_region, read_or_none, save_png

GREY = np.array([[0, 10, 255], [7, 128, 3]], np.uint8)
PALETTE = {(255, 0, 0): 1, (0, 255, 0): 2}
REGION = np.array([[0, 1, 1], [0, 1, 0]], bool)
RED = np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8)
READERS = (image_files.read_pixels, image_files.read_grey, image_files.read_binary)
COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]], np.uint8)
MODES = [(mode, suffix) for suffix in ("png", "tif", "bmp") for mode in ("1", "L", "P", "LA", "RGB", "RGBA")]
SHADES = np.array([[[0, 0, blue] for blue in (0, 1, 2, 2, 3, 4, 5, 6, 7)]], np.uint8)


def encoded(pixels, kind):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(np.dstack([GREY] * 3)), GREY),
        (Image.fromarray(np.dstack([GREY, GREY, GREY, 0 * GREY])), GREY),  # transparency is ignored
        (Image.fromarray(np.dstack([GREY, 0 * GREY])), GREY),
        (Image.fromarray(GREY > 100), [[0, 0, 255], [0, 255, 0]]),
        (Image.fromarray(COLOURS), [[76, 150, 29, 226]]),  # 0.299, 0.587, 0.114 and 0.886 of 255, rounded: Rec. 601
        (Image.fromarray(RED).quantize(4), [[76, 0]]),
    ],
)
def test_images_are_read_as_grey_values(tmp_path, image, expected):
    image.save(tmp_path / "a.png")
    assert np.array_equal(image_files.read_grey(tmp_path / "a.png"), expected)


def test_pixels_of_palettes_and_cmyk_are_their_colours(tmp_path):
    Image.fromarray(RED).quantize(4).save(tmp_path / "palette.png")
    assert np.array_equal(image_files.read_pixels(tmp_path / "palette.png"), RED)
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    assert abs(image_files.read_pixels(tmp_path / "cmyk.jpg").astype(int) - [255, 0, 0]).max() <= 4  # JPEG error


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4, "<i4", "<f4"])
def test_more_than_8_bits_per_channel_are_refused_by_name_and_never_truncated(tmp_path, channels, suffix):
    path = tmp_path / f"deep.{suffix}"
    if isinstance(channels, int):
        cv2.imwrite(str(path), np.full((2, 3, channels), 51_234, np.uint16))  # Pillow reads 200 if it has colours
    else:
        Image.fromarray(GREY.astype(channels)).save(path, format="TIFF")
    for read in READERS:
        with pytest.raises(ValueError, match=rf"deep\.{suffix}: .*; expected 8 bits per channel"):
            read(path)


@pytest.mark.parametrize("name", ["größe (2) ünder.png", "頭部 1.PNG", "a b  c.jpeg", "α'β\"γ.bmp", "x.y.z.tif"])
def test_names_with_blanks_brackets_and_any_letters_are_read(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name)
    assert image_files.read_pixels(tmp_path / name).shape == GREY.shape
    assert list(image_files.by_stem(tmp_path)) == [name.rpartition(".")[0]]


def vast():
    """A PNG whose header claims 60,000 x 60,000 pixels."""
    whole = bytearray(encoded(np.zeros((1, 1), np.uint8), "PNG"))
    whole[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    return bytes(whole)


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "link")
    for name, content in (("empty", b""), ("text", b"a"), ("signature", b"\x89PNG\r\n\x1a\n"), ("vast", vast())):
        (tmp_path / name).write_bytes(content)
    for name in ("missing", "folder", "link", "empty", "text", "signature", "vast"):
        for read in READERS:
            with pytest.raises(ValueError, match=f"{name}: cannot be read as an image"):
                read(tmp_path / name)


def test_a_png_truncated_anywhere_is_refused_or_has_lost_no_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 15)).astype(np.uint8)
    whole = encoded(pixels, "PNG")
    for length in range(len(whole)):
        read = read_or_none(image_files.read_pixels, tmp_path / "cut.png", whole[:length])
        complete = length > len(whole) - 24  # after the last pixel follow two checksums and the end mark
        assert read is None or (complete and np.array_equal(read, pixels))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "BMP"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_with_any_byte_changed_raises_nothing_but_value_errors(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # no memory for a changed size
    whole = encoded(np.arange(200, dtype=np.uint8).reshape(10, 20), kind)
    for offset in range(len(whole)):
        corrupted = whole[:offset] + bytes([whole[offset] ^ 0xFF]) + whole[offset + 1 :]
        read_or_none(image_files.read_pixels, tmp_path / "corrupted", corrupted)


@pytest.mark.parametrize(("mode", "suffix"), [each for each in MODES if each != ("LA", "bmp")])  # there is no such BMP
def test_a_mask_of_0_and_255_or_of_0_and_1_is_read_whatever_its_mode(tmp_path, mode, suffix):
    for highest in (255,) if mode in ("1", "P") else (255, 1):
        values = REGION.astype(np.uint8) * highest
        image = Image.fromarray(values).convert(mode)
        if mode in ("LA", "RGBA"):
            image.putalpha(Image.fromarray(255 - values))  # the inverse of the values
        image.save(tmp_path / f"m.{suffix}")
        mask = image_files.read_binary(tmp_path / f"m.{suffix}")
        assert mask.dtype == bool
        assert np.array_equal(mask, REGION)


def test_a_region_in_one_colour_and_a_mask_of_one_value_are_read(tmp_path):
    one_value = [np.full((3, 4), value, np.uint8) for value in (0, 1, 255)]
    for pixels in [REGION[..., None] * colour for colour in COLOURS[0]] + one_value:
        expected = pixels.max(axis=2) > 0 if pixels.ndim == 3 else pixels > 0
        assert np.array_equal(image_files.read_binary(save_png(tmp_path / "m.png", pixels)), expected)


@pytest.mark.parametrize("values", [[0, 128, 255], [0, 1, 255], [0, 128], [254, 255], [2], list(range(0, 100, 10))])
def test_other_values_are_refused_and_named(tmp_path, values):
    path = save_png(tmp_path / "m.png", np.array([values], np.uint8))
    with pytest.raises(ValueError, match=f"{re.escape(f'{path}: values {values[:8]}')}; expected a mask"):
        image_files.read_binary(path)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG"])
def test_a_lossy_mask_counts_from_128(tmp_path, suffix):
    rows, cols = np.ogrid[:64, :80]
    disc = (rows - 30) ** 2 + (cols - 41) ** 2 <= 20**2
    path = tmp_path / f"m.{suffix}"
    Image.fromarray(disc.astype(np.uint8) * 255).save(path, format="JPEG", quality=75)
    assert len(np.unique(image_files.read_pixels(path))) > 2
    assert (image_files.read_binary(path) != disc).sum() <= 12  # some of the edge's 113 pixels
    assert np.array_equal(image_files.read_binary(path, read=lambda _: np.array([[127, 128]])), [[False, True]])
    assert not any(image_files.is_lossy(Path(name)) for name in ("a.png", "jpg", "a.jpg.png"))


def test_image_files_are_listed_by_stem_whatever_the_case_of_their_suffix(tmp_path):
    names = ["b.PNG", "a.Jpg", "c.jpeg", "d.BMP", "e.tif", "f.TIFF", "notes.txt", "table.csv", ".g.png", "._a.Jpg", "h"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "deep.png").write_bytes(b"")
    files = {stem: path.name for stem, path in image_files.by_stem(tmp_path).items()}
    assert list(files.items()) == list(zip("abcdef", ["a.Jpg", "b.PNG", *names[2:6]]))
    assert image_files.by_stem(tmp_path / "nowhere") == {}
    decomposed = unicodedata.normalize("NFD", "größe é")
    (tmp_path / "inner" / f"{decomposed}.png").write_bytes(b"")
    assert image_files.by_stem(tmp_path / "inner")[unicodedata.normalize("NFC", decomposed)].is_file()


@pytest.mark.parametrize("names", [("a.png", "a.jpg"), ("a.png", "a.PNG"), ("\u00e9.png", "e\u0301.png")])
def test_two_files_of_one_stem_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not distinguish the names")
    with pytest.raises(ValueError, match="expected one file per name") as caught:
        image_files.by_stem(tmp_path)
    assert all(part in str(caught.value) for part in (str(tmp_path), *names))


def test_colours_and_grey_values_are_counted_and_transparency_is_ignored():
    grey = np.array([[3, 3, 0], [255, 3, 0]], np.uint8)
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[0, 1] = (255, 0, 1)
    for pixels, counts in ((grey, {(0,): 2, (3,): 3, (255,): 1}), (colours, {(0, 0, 0): 5, (255, 0, 1): 1})):
        for view in (pixels, np.dstack([pixels, GREY]), pixels.swapaxes(0, 1)):
            assert image_files.colour_counts(view) == counts


def test_colours_become_the_classes_of_the_palette():
    pixels = np.array([[[0, 0, 0], [255, 0, 0]], [[0, 255, 0], [255, 0, 0]]], np.uint8)
    for each in (pixels, np.dstack([pixels, GREY[:, :2]])):
        decoded = image_files.decode_palette(each, PALETTE)
        assert decoded.dtype == np.uint8
        assert decoded.tolist() == [[0, 1], [2, 1]]
    assert image_files.decode_palette(np.zeros((1, 2, 3), np.uint8), {(0, 0, 0): 3}).tolist() == [[3, 3]]


@pytest.mark.parametrize(
    ("pixels", "lossy", "message"),
    [
        *[(GREY, lossy, r"shape \(2, 3\); expected colours") for lossy in (False, True)],
        *[(np.dstack([GREY, GREY]), lossy, r"shape \(2, 3, 2\); expected colours") for lossy in (False, True)],
        (SHADES, False, r"\(0, 0, 2\) in 2 pixels, .*5\) in 1 pixels and 2 more; expected \[\(0, 0, 0\)"),
    ],
)
def test_a_mask_without_colours_or_with_unknown_ones_is_refused(pixels, lossy, message):
    with pytest.raises(ValueError, match=message):
        image_files.decode_palette(pixels, PALETTE, lossy)


def test_a_lossy_mask_takes_the_nearest_colour_of_ties_the_first():
    pixels = np.array([[[200, 30, 10], [20, 130, 0], [100, 20, 20], [127, 127, 0], [128, 128, 0]]], np.uint8)
    # To black, red and green, squared: (100, 20, 20) is 10,800 from black, 24,825 from red;
    # (127, 127, 0) is 32,258 from black and 32,513 from both others; (128, 128, 0) is nearer to red and green.
    assert image_files.decode_palette(pixels, PALETTE, lossy=True).tolist() == [[1, 2, 0, 0, 1]]
    palette = {(0, 0, 0): 0, (255, 0, 0): 2, (0, 255, 0): 1, (0, 0, 255): 7, (90, 90, 90): 3}
    for shape in ((1, 1), (1, 4), (4, 1), (7, 5)):
        noise = np.random.default_rng(0).integers(0, 256, (*shape, 4)).astype(np.uint8)
        distances = [((noise[..., :3].astype(int) - colour) ** 2).sum(axis=2) for colour in palette]
        nearest = image_files.nearest_class(noise, palette)
        assert nearest.dtype == np.uint8
        assert np.array_equal(nearest, np.array(list(palette.values()))[np.argmin(distances, axis=0)])


def test_a_colour_mask_survives_jpeg_except_at_its_borders(tmp_path):
    truth = np.zeros((200, 300), np.uint8)
    truth[ellipse_region(truth.shape, (100, 150), 240, 160, 20)] = 1
    truth[ellipse_region(truth.shape, (90, 120), 60, 30, 70)] = 2
    truth[ellipse_region(truth.shape, (120, 190), 50, 40, 0)] = 3
    palette = PALETTE | {(0, 0, 255): 3}
    Image.fromarray(np.array([(0, 0, 0), *palette], np.uint8)[truth]).save(tmp_path / "m.jpg", quality=90)
    pixels = image_files.read_pixels(tmp_path / "m.jpg")
    with pytest.raises(ValueError, match="unknown colours"):
        image_files.decode_palette(pixels, palette)
    wrong = image_files.decode_palette(pixels, palette, lossy=True) != truth
    kernel = np.ones((5, 5), np.uint8)  # two pixels each way: JPEG stores colours at half the size
    border = cv2.dilate(truth, kernel) != cv2.erode(truth, kernel)
    assert wrong.mean() < 0.01
    assert not (wrong & ~border).any()
