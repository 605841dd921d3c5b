import contextlib
import io
import itertools
import os
import re
import socket
import struct
import unicodedata
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from lib.data import cases
from lib.imaging import image_files, mask_files
from lib.study import files
from tests.builders import ellipse_region, read_or_none, save_png

HC18 = files.ROOT.parent / "shared" / "data" / "hc18" / "training_set"
GREY = np.array([[0, 10, 255], [7, 128, 3]], np.uint8)
PALETTE = {(255, 0, 0): 1, (0, 255, 0): 2}
REGION = np.array([[0, 1, 1], [0, 1, 0]], bool)
RED = np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8)
READERS = (image_files.read_pixels, image_files.read_grey, image_files.read_binary, mask_files.read)
COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]], np.uint8)
MODES = [(mode, suffix) for suffix in ("png", "tif", "bmp") for mode in ("1", "L", "P", "LA", "RGB", "RGBA")]
SHADES = np.array([[[0, 0, blue] for blue in (0, 1, 2, 2, 3, 4, 5, 6, 7)]], np.uint8)


def encoded(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
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
@pytest.mark.parametrize("channels", [1, 3, 4, "<i4", "<f4", "LAB"])
def test_more_than_8_bits_per_channel_and_other_colours_are_refused_by_name(tmp_path, channels, suffix):
    path = tmp_path / f"deep.{suffix}"
    if isinstance(channels, int):
        cv2.imwrite(str(path), np.full((2, 3, channels), 51_234, np.uint16))  # Pillow reads 200 if it has colours
    else:
        image = Image.new("LAB", (3, 2)) if channels == "LAB" else Image.fromarray(GREY.astype(channels))
        image.save(path, format="TIFF")
    for read in READERS:
        with pytest.raises(ValueError, match=rf"deep\.{suffix}: .*; expected 8 bits per channel"):
            read(path)


def tiff_with(tag, old, new, pixels=GREY):
    """An uncompressed TIFF of 8 bits, one 16-bit tag of which was changed."""
    whole = encoded(pixels, "TIFF", tiffinfo={tag: old})
    entry = struct.pack("<HHIH", tag, 3, 1, old)
    assert whole.count(entry) == 1
    return whole.replace(entry, entry[:-2] + struct.pack("<H", new))


def test_signed_values_are_refused_and_white_stored_as_0_is_read_as_shown_but_refused_in_a_mask(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_with(339, 1, 2))
    for read in READERS:
        with pytest.raises(ValueError, match=r"a\.tif: .* signed values; expected 8 bits per channel"):
            read(path)
    path.write_bytes(tiff_with(262, 1, 0))  # as tifffile stores arrays of booleans
    assert np.array_equal(image_files.read_grey(path), 255 - GREY)
    with pytest.raises(ValueError, match=r"a\.tif: white is stored as 0 .*; expected black as 0 \(save it as PNG"):
        image_files.read_binary(path)


@pytest.mark.parametrize("name", ["größe (2) ünder.png", "頭部 1.PNG", "a b  c.jpeg", "α'β\"γ.bmp", "x.y.z.tif"])
def test_names_with_blanks_brackets_and_any_letters_are_read(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name)
    assert image_files.read_pixels(tmp_path / name).shape == GREY.shape
    assert list(image_files.by_stem(tmp_path)) == [name.rpartition(".")[0]]


def with_size(width, height):
    """A PNG whose header claims a size, with the right checksum."""
    whole = bytearray(encoded(np.zeros((1, 1), np.uint8), "PNG"))
    whole[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    return bytes(whole)


WHOLE = encoded(GREY, "PNG")
FOREIGN = {
    "missing": (None, "No such file or directory"),
    "empty": (b"", r"the file is empty \(0 bytes\)"),
    "text": (b"a", "starts with b'a'; expected that of a PNG, JPEG, BMP or TIFF file"),
    "gif": (encoded(GREY, "GIF"), "its content is a GIF; expected that of a PNG"),
    "webp": (encoded(GREY, "WEBP"), "its content is a WebP picture"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "its content is a HEIC picture"),
    "avif": (b"\0\0\0\x18ftypavif\0\0\0\0", "its content is an AVIF picture"),
    "dicom": (bytes(128) + b"DICM", "its content is a DICOM file"),
    "pdf": (b"%PDF-1.7\n", "its content is a PDF"),
    "page": (b"\n<!DOCTYPE html><html>", "its content is a web page"),
    "zip": (b"PK\3\4", "its content is a zip archive"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"its content is PostScript \(EPS\)"),
    "signature": (WHOLE[:8], "truncated at byte 8"),
    "no header": (WHOLE[:8] + WHOLE[-12:], ""),
    "ended": (WHOLE + b"\n\0x", "3 bytes follow its end, left by another file"),
    "joined": (WHOLE + WHOLE, f"{len(WHOLE)} bytes follow its end, left by another file"),
    "vast": (with_size(60_000, 60_000), "60000 x 60000 = 3600000000 pixels; expected at most 67108864"),
    "long": (with_size(67_108_865, 1), "67108865 pixels; expected at most 67108864"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "content", "message"), [(name, *each) for name, each in FOREIGN.items()])
def test_other_files_are_refused_by_name_and_never_start_a_program(tmp_path, monkeypatch, name, content, message):
    monkeypatch.setenv("PATH", str(tmp_path))  # a Ghostscript that Pillow would find
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho ran > {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    path = tmp_path / f"{name}.png"
    if content is not None:
        path.write_bytes(content)
    for read in READERS:
        with pytest.raises(ValueError, match=rf"{name}\.png: cannot be read as an image: .*{message}"):
            read(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("rest", [b"\n", b"\r\n", bytes(300), b" \t\0\n"])
def test_a_png_may_be_followed_by_zeros_and_white_space(tmp_path, rest):
    (tmp_path / "a.png").write_bytes(WHOLE + rest)
    assert np.array_equal(image_files.read_pixels(tmp_path / "a.png"), GREY)


def test_a_file_of_more_than_a_gibibyte_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "vast.png"
    path.write_bytes(WHOLE)
    os.truncate(path, (1 << 30) + 1)  # sparse; zeros after its end are allowed
    for read in READERS:
        with pytest.raises(ValueError, match=r"vast\.png: .*: 1073741825 bytes; expected at most 1073741824"):
            read(path)


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        with contextlib.chdir(tmp_path):  # a socket's path has at most 107 bytes
            listener.bind("socket.png")
        for name in ("pipe", "folder", "device", "socket"):
            for read in READERS:
                with pytest.raises(ValueError, match=rf"{name}\.png: cannot be read as an image: not a regular file"):
                    read(tmp_path / f"{name}.png")
        with pytest.raises(ValueError, match=r"pipe\.png: cannot be read: not a regular file"):
            cases.content_hash(tmp_path / "pipe.png", [])
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    for name in ("loop", "broken"):
        with pytest.raises(ValueError, match=rf"{name}\.png: cannot be read as an image: (No such file|Too many)"):
            image_files.open_image(tmp_path / f"{name}.png")


@pytest.mark.parametrize(("kind", "suffix"), [("TIFF", "tif"), ("PNG", "png"), ("PNG", "jpg")])
def test_a_file_of_several_pages_or_frames_is_refused(tmp_path, kind, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(0 * GREY).save(path, format=kind, save_all=True, append_images=[Image.fromarray(GREY)])
    for read in READERS[:3]:
        with pytest.raises(ValueError, match=rf"a\.{suffix}: .*: 2 pages or frames; expected one"):
            read(path)


def flips(whole, count, draw):
    """Copies of some bytes, each with one bit changed."""
    for bit in draw.choice(8 * len(whole), min(count, 8 * len(whole)), replace=False).tolist():
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(changed)


def test_no_png_is_read_with_other_pixels_after_a_bit_has_flipped(tmp_path):
    draw = np.random.default_rng(0)
    drawn = draw.integers(0, 256, (64, 64)).astype(np.uint8) >> 3  # 25 of 204 flips gave other pixels, unchecked
    sources = [encoded(drawn, "PNG"), *(path.read_bytes() for path in sorted(HC18.glob("0[01]?_HC*.png"))[:8])]
    for whole in sources:
        for bit, changed in flips(whole, 96, draw):
            assert read_or_none(image_files.read_pixels, tmp_path / "flipped.png", changed) is None, bit


def exif(orientation):
    tags = Image.Exif()
    tags[274] = orientation
    return tags


# Stored pixels to upright ones (EXIF 3.0, 4.6.5.1.6: on which side of the picture row 0 and column 0 are).
UPRIGHT = {
    **{1: lambda stored: stored, 2: lambda stored: stored[:, ::-1], 3: lambda stored: stored[::-1, ::-1]},
    **{4: lambda stored: stored[::-1], 5: lambda stored: stored.T, 6: lambda stored: stored.T[:, ::-1]},
    **{7: lambda stored: stored[::-1, ::-1].T, 8: lambda stored: stored.T[::-1]},
}


ORIENTED = [(kind, tag) for kind in ("PNG", "JPEG", "TIFF", "compressed TIFF") for tag in range(10)]
ORIENTED = [each for each in ORIENTED if each not in [("compressed TIFF", 0), ("compressed TIFF", 9)]]  # not written


@pytest.mark.parametrize(("kind", "orientation"), ORIENTED)
def test_every_format_is_read_upright_once(tmp_path, kind, orientation):
    stored = np.kron(np.array([[10, 60, 110], [160, 210, 250]], np.uint8), np.ones((16, 16), np.uint8))
    options = {"compression": "tiff_lzw"} if kind.startswith("compressed") else {}
    if kind == "JPEG":
        options = {"quality": 100}
    Image.fromarray(stored).save(tmp_path / "a", format=kind.split()[-1], exif=exif(orientation), **options)
    opened = image_files.open_image(tmp_path / "a")
    upright = UPRIGHT.get(orientation, UPRIGHT[1])(stored)
    assert opened.orientation == (orientation or 1)  # many programs write 0 for none
    assert opened.pixels.shape == upright.shape
    assert abs(opened.pixels.astype(int) - upright).max() <= (2 if kind == "JPEG" else 0)


def with_alpha(values, alpha, mode):
    image = Image.fromarray(values).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    return image


def palette_of_one_colour(indices):
    image = Image.fromarray(indices).convert("P")
    image.putpalette([255] * 768)
    image.info["transparency"] = 0
    return image


SHAPE = REGION.astype(np.uint8) * 255
IN_THE_TRANSPARENCY = {
    "white": with_alpha(np.full_like(SHAPE, 255), SHAPE, "RGB"),
    "black": with_alpha(0 * SHAPE, SHAPE, "RGB"),
    "grey": with_alpha(np.full_like(SHAPE, 255), SHAPE, "L"),
    "palette": palette_of_one_colour(REGION.astype(np.uint8)),
}


@pytest.mark.parametrize(
    ("name", "suffix"), [(name, "png") for name in IN_THE_TRANSPARENCY] + [("white", "tif"), ("grey", "tif")]
)
def test_a_mask_whose_shape_is_in_its_transparency_is_refused_and_an_image_is_read(tmp_path, name, suffix):
    path = tmp_path / f"m.{suffix}"
    IN_THE_TRANSPARENCY[name].save(path)
    with pytest.raises(ValueError, match=rf"m\.{suffix}: one colour throughout; its shape is in the transparency"):
        image_files.read_binary(path)
    opened = image_files.open_image(path)
    assert opened.has_transparency
    assert set(image_files.colour_counts(opened.pixels)) in [{(v,) * n} for v in (0, 255) for n in (1, 3)]


@pytest.mark.parametrize("mode", ["L", "RGB", "key"])
def test_a_mask_with_fully_transparent_pixels_that_are_not_black_is_refused(tmp_path, mode):
    path = tmp_path / "m.png"
    if mode == "key":
        Image.fromarray(255 - SHAPE).save(path, transparency=255)
    else:
        with_alpha(255 - SHAPE, SHAPE, mode).save(path)
    with pytest.raises(ValueError, match=r"m\.png: fully transparent pixels that are not black; .*; expected black"):
        image_files.read_binary(path)
    assert np.array_equal(image_files.read_grey(path), 255 - SHAPE)
    for values, alpha in ((SHAPE, SHAPE), (255 - SHAPE, np.maximum(SHAPE, 1))):  # black is; nearly transparent
        with_alpha(values, alpha, "RGB").save(path)
        assert np.array_equal(image_files.read_binary(path), values > 0)


def test_a_mask_of_constant_transparency_is_read_whatever_its_colours(tmp_path):
    for values, alpha in itertools.product((SHAPE, 0 * SHAPE), (0, 128, 255)):
        with_alpha(values, np.full_like(SHAPE, alpha), "RGB").save(tmp_path / "m.png")
        opened = image_files.open_mask(tmp_path / "m.png")
        assert not opened.has_transparency
        assert np.array_equal(opened.pixels[..., 0], values)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("mode", "key"), [("L", 0), ("RGB", (0, 0, 0)), ("P", b"\xff\x80"), ("1", 0)])
def test_single_transparent_colours_change_no_pixel(tmp_path, mode, key):
    indices = Image.fromarray(REGION.astype(np.uint8) * (1 if mode == "P" else 255))
    image = indices.convert(mode)
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "m.png", transparency=key)
    assert image_files.open_mask(tmp_path / "m.png").has_transparency
    assert np.array_equal(image_files.read_binary(tmp_path / "m.png"), REGION)


def test_content_and_not_suffix_decides_what_a_file_is(tmp_path):
    for kind, name in (("PNG", "a.jpg"), ("PNG", "b.tif"), ("JPEG", "c.png"), ("TIFF", "d.bmp"), ("BMP", "e")):
        Image.fromarray(GREY).save(tmp_path / name, format=kind)
        opened = image_files.open_image(tmp_path / name)
        assert (opened.format, opened.is_lossy) == (kind, kind == "JPEG")


def test_a_png_truncated_anywhere_is_refused(tmp_path):
    whole = encoded(np.random.default_rng(0).integers(0, 256, (10, 15)).astype(np.uint8), "PNG")
    for length in range(len(whole)):
        assert read_or_none(image_files.read_pixels, tmp_path / "cut.png", whole[:length]) is None


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "BMP"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_image_with_any_byte_changed_raises_nothing_but_value_errors(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_PIXELS", 10_000)  # no memory for a changed size
    tags = {} if kind == "BMP" else {"exif": exif(6)}
    whole = encoded(np.arange(200, dtype=np.uint8).reshape(10, 20), kind, **tags)
    for offset in range(len(whole)):
        corrupted = whole[:offset] + bytes([whole[offset] ^ 0xFF]) + whole[offset + 1 :]
        read_or_none(image_files.read_pixels, tmp_path / "corrupted", corrupted)


@pytest.mark.parametrize(("mode", "suffix"), [each for each in MODES if each != ("LA", "bmp")])  # there is no such BMP
def test_a_mask_of_0_and_255_or_of_0_and_1_is_read_whatever_its_mode(tmp_path, mode, suffix):
    for highest in (255,) if mode in ("1", "P") else (255, 1):
        values = REGION.astype(np.uint8) * highest
        image = Image.fromarray(values).convert(mode)
        if mode in ("LA", "RGBA"):
            image.putalpha(Image.fromarray(np.maximum(255 - values, 1)))  # the inverse of the values
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
    edge = replace(image_files.open_mask(path), pixels=np.array([[127, 128]], np.uint8))
    assert np.array_equal(image_files.read_binary(path, read=lambda _: edge), [[False, True]])


def test_a_lossy_mask_of_0_and_1_is_refused_and_a_black_one_is_empty(tmp_path):
    path = tmp_path / "m.jpg"
    Image.fromarray(np.kron(REGION, np.ones((32, 32))).astype(np.uint8)).save(path, quality=95)
    with pytest.raises(ValueError, match=r"m\.jpg: JPEG with values up to 1; expected black and white"):
        image_files.read_binary(path)
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(path, quality=40)  # 1 throughout
    assert not image_files.read_binary(path).any()


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


def test_colours_and_grey_values_are_counted():
    grey = np.array([[3, 3, 0], [255, 3, 0]], np.uint8)
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[0, 1] = (255, 0, 1)
    for pixels, counts in ((grey, {(0,): 2, (3,): 3, (255,): 1}), (colours, {(0, 0, 0): 5, (255, 0, 1): 1})):
        for view in (pixels, pixels.swapaxes(0, 1)):
            assert image_files.colour_counts(view) == counts


def test_colours_become_the_classes_of_the_palette():
    pixels = np.array([[[0, 0, 0], [255, 0, 0]], [[0, 255, 0], [255, 0, 0]]], np.uint8)
    decoded = image_files.decode_palette(pixels, PALETTE)
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == [[0, 1], [2, 1]]
    assert image_files.decode_palette(np.zeros((1, 2, 3), np.uint8), {(0, 0, 0): 3}).tolist() == [[3, 3]]


@pytest.mark.parametrize(
    ("pixels", "lossy", "message"),
    [
        *[(GREY, lossy, r"shape \(2, 3\); expected colours") for lossy in (False, True)],
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
        noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
        distances = [((noise.astype(int) - colour) ** 2).sum(axis=2) for colour in palette]
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
