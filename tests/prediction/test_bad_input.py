"""Files that cannot be used are named with the reason, and the rest is predicted; odd images get an honest answer."""

import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML, JPEGBaseline8Bit, RLELossless

from lib.imaging import head_quality, mask_files
from lib.study import files
from tests import builders
from tests.builders_predict import (
    HC_MM,
    SHAPE,
    SPACING_MM,
    dicom,
    flags,
    hc_mm,
    head_image,
    predict,
    refusals,
    region,
    save_dicom,
    text_of,
    transparent,  # noqa: F401
    write_model,
)

BLACK, WHITE = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)
TWO_HEADS = np.maximum(
    builders.ellipse_region(SHAPE, (60, 40), 60, 50, 0), builders.ellipse_region(SHAPE, (60, 115), 70, 60, 0)
).astype(np.uint8) * np.uint8(255)
CROSS = np.zeros(SHAPE, np.uint8)
CROSS[60, 80] = 255  # four edge points


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model.safetensors")


@pytest.fixture
def answer(model, tmp_path, transparent, capsys):  # noqa: F811
    """Predicts a folder of images by name; returns the folder of answers, the status and the lines printed."""

    def run(images, *options):
        for name, content in images.items():
            path = tmp_path / "in" / name
            if isinstance(content, bytes):
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            elif isinstance(content, np.ndarray):
                builders.save_png(path, content)
            else:
                save_dicom(path, content)
        status = predict(model, tmp_path / "in", tmp_path / "out", *options)
        captured = capsys.readouterr()
        return tmp_path / "out", status, captured.out + captured.err

    return run


def test_a_head_of_known_size_is_measured_from_its_mask(answer):
    out, status, printed = answer({"a.png": head_image()}, "--pixel-size", str(SPACING_MM))
    assert status == 0
    assert hc_mm(out)["a"] == pytest.approx(HC_MM, rel=0.002)
    assert printed.splitlines()[-1].endswith("out: 1 case; not a medical device; for research only")
    submitted = files.read_csv(out / "hc18_submission.csv", ["angle_rad"]).iloc[0]
    expected = {"center_x_mm": 40.0, "center_y_mm": 30.0, "semi_axes_a_mm": 25.0, "semi_axes_b_mm": 20.0}
    assert submitted[list(expected)].to_dict() == pytest.approx(expected, rel=0.003)
    assert np.degrees(submitted["angle_rad"]) == pytest.approx(20, abs=0.3)
    assert "Not a medical device" in (out / "index.html").read_text()
    assert "data:image/jpeg;base64," in (out / "index.html").read_text()


@pytest.mark.parametrize(
    ("image", "flag", "hc"),
    [
        (BLACK, "no ellipse", None),
        (WHITE, "no ellipse", None),  # touches all borders: the frame is no edge
        (CROSS, "no ellipse", None),
        (np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8), "", ...),
        (TWO_HEADS, "", builders.perimeter(70, 60) * SPACING_MM),  # the larger
        (builders.ellipse_region(SHAPE, (60, 80), 150, 60, 0).astype(np.uint8) * np.uint8(255), "elongated", ...),
    ],
    ids=["black", "white", "too few points", "noise", "two heads", "elongated"],
)
def test_an_image_without_one_plain_head_has_a_row_and_says_so(answer, image, flag, hc):
    out, status, _ = answer({"a.png": image}, "--pixel-size", str(SPACING_MM))
    assert status == 0
    measured = hc_mm(out)
    if hc is None:
        assert np.isnan(measured["a"])
    elif hc is not ...:
        assert measured["a"] == pytest.approx(hc, rel=0.004)
    if image is not None and flag:
        assert flag in flags(out)["a"]
    assert len(files.read_csv(out / "measurements.csv", ["case"])) == 3  # one per quantity, measured or not
    assert (out / "masks" / "a.png").is_file()


def test_flags_say_why_a_head_can_be_trusted_less(tmp_path, answer):
    limits = {"cut by the frame": 0.1, "two regions": 0.1, "unlike the training images": 100.0}
    usual = head_quality.grey_levels(head_image()).tolist()
    write_model(tmp_path / "model.safetensors", flags={"limits": limits, "usual_greys": usual})
    cut = builders.ellipse_region(SHAPE, (0, 80), 100, 80, 0).astype(np.uint8) * np.uint8(255)
    images = {"whole.png": head_image(), "cut.png": cut, "two.png": TWO_HEADS, "photograph.png": WHITE}
    out, status, printed = answer(images, "--pixel-size", str(SPACING_MM))
    assert status == 0
    assert flags(out) == {
        "whole": "",
        "cut": "cut by the frame",
        "two": "two regions",
        "photograph": "no ellipse; unlike the training images",
    }
    assert "[cut by the frame]" in printed
    page = (out / "index.html").read_text()
    assert "[two regions]" in page
    assert "their limits were chosen on validation cases" in page
    out, *_ = answer({"two.png": TWO_HEADS})
    assert flags(out)["two"] == "no pixel size; two regions"


def test_a_head_of_an_implausible_size_is_flagged(answer):
    speck = builders.ellipse_region(SHAPE, (60, 80), 20, 16, 0).astype(np.uint8) * np.uint8(255)
    out, _, printed = answer({"a.png": speck}, "--pixel-size", str(SPACING_MM))
    assert flags(out)["a"] == "HC out of range"
    assert "[HC out of range]" in printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "mm, 0.02 to 1"),
        ("-0.1", "mm, 0.02 to 1"),
        ("0.0069", "mm, 0.02 to 1 (is it in cm?)"),
        ("nan", "mm, 0.02 to 1"),
        ("0.12 mm", "mm, 0.02 to 1 (without a unit)"),
        ("0,12", "mm, 0.02 to 1 (a decimal point?)"),
        ("", "mm, 0.02 to 1"),
    ],
)
def test_a_pixel_size_that_is_none_is_refused_before_anything_is_computed(answer, text, message):
    out, status, printed = answer({"a.png": head_image()}, f"--pixel-size={text}")
    assert status == 2
    assert printed == f'pixel-size = "{text}"   not allowed; {message}\n'
    assert not out.exists()


def test_without_a_pixel_size_the_mask_is_written_and_the_numbers_are_empty(answer):
    out, status, printed = answer({"a.png": head_image()})
    assert status == 0
    assert np.isnan(hc_mm(out)["a"])
    assert flags(out)["a"] == "no pixel size"
    assert "a  [no pixel size (a picture file holds no pixel size)]" in printed
    assert mask_files.read(out / "masks" / "a.png").any()
    assert np.isfinite(files.read_csv(out / "points.csv", ["ofd_1_row"])["ofd_1_row"]).all()  # in pixels


TABLES = {
    "HC18": ("filename,pixel size(mm),head circumference (mm)\na.png,{},1.0\n", "0.5"),
    "HC18 test set": ("filename,pixel size(mm)\nA.PNG,{}\nother.png,0.1\n", "0.5"),
    "own layout": ("name;subject;spacing_mm\na;anna;{}\n", "0,5"),
    "own layout, both axes": ("name,spacing_row_mm,spacing_col_mm\na,0.5,{}\n", "0.5"),
}


@pytest.mark.parametrize(("text", "cell"), TABLES.values(), ids=TABLES)
def test_pixel_sizes_are_read_from_the_tables_of_the_project(answer, tmp_path, text, cell):
    (tmp_path / "sizes.csv").write_text(text.format(cell))
    out, status, _ = answer({"a.png": head_image()}, "--pixel-sizes", str(tmp_path / "sizes.csv"))
    assert status == 0
    assert hc_mm(out)["a"] == pytest.approx(HC_MM, rel=0.002)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "filename,pixel size(mm)\na.png,0.0069\n",
            'sizes.csv, row 2, column "pixel size(mm)": "0.0069"; expected mm, ',
        ),
        ("filename,pixel size(mm)\na.png,0.5\na.png,0.4\n", "sizes.csv, row 2 and row 3; expected one row"),
        (
            "filename,size\na.png,0.5\n",
            "sizes.csv: columns ['filename', 'size']; expected the columns filename and pixel",
        ),
        ("filename,pixel size(mm)\nb.png,0.5\n", "sizes.csv: names none of the inputs; it has b, the inputs are a, …"),
        ("", "sizes.csv: the file is empty (0 bytes)"),
    ],
)
def test_a_table_of_pixel_sizes_that_cannot_be_meant_is_refused(answer, tmp_path, text, message):
    (tmp_path / "sizes.csv").write_text(text)
    out, status, printed = answer({"a.png": head_image()}, "--pixel-sizes", str(tmp_path / "sizes.csv"))
    assert status == 2
    assert message in printed
    assert not out.exists()


def jpeg(pixels, **settings):
    """A JPEG file."""
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=95, **settings)
    return content.getvalue()


def turned(orientation):
    """A JPEG that is stored turned by a quarter, with the EXIF orientation that says so."""
    exif = Image.Exif()
    exif[274] = orientation
    return jpeg(np.rot90(head_image()).copy(), exif=exif.tobytes())


def test_bad_files_are_named_with_the_reason_and_the_others_are_predicted(answer, tmp_path):
    sixteen = Image.fromarray(head_image().astype(np.uint16) * 257)
    (tmp_path / "in").mkdir()
    sixteen.save(tmp_path / "in" / "deep.png")
    whole = jpeg(head_image())
    builders.save_png(tmp_path / "whole.png", head_image())
    cut = (tmp_path / "whole.png").read_bytes()[:-40]
    images = {"good.png": head_image(), "turned.jpg": turned(6), "cut.png": cut, "empty.png": b"", "web.png": b"<html>"}
    images |= {"whole.jpg": whole, "note.txt": b"not an image", "good_mask.png": head_image()}
    out, status, printed = answer(images, "--pixel-size", str(SPACING_MM))
    assert status == 1
    assert sorted(refusals(out)) == ["cut.png", "deep.png", "empty.png", "web.png"]
    assert refusals(out)["deep.png"] == (
        "cannot be read as an image: 16 bits per channel; expected 8 bits per channel (save it as an 8-bit PNG)"
    )
    assert "truncated at byte" in refusals(out)["cut.png"]
    assert "cut.png: refused: cannot be read as an image: truncated" in printed
    assert "2 files are no images, or masks of images beside them, and are left out: good_mask.png, note.txt" in printed
    measured = hc_mm(out)
    assert measured["good"] == pytest.approx(HC_MM, rel=0.002)
    assert measured["turned"] == pytest.approx(HC_MM, rel=0.005)
    notes = files.read_csv(out / "cases.csv", ["case", "calibration"]).set_index("case")["notes"]
    assert notes["turned"] == "turned upright (EXIF orientation 6)"
    assert mask_files.read(out / "masks" / "turned.png").shape == SHAPE
    assert printed.splitlines()[-1].endswith(
        "3 cases, 4 refused (refused.csv); not a medical device; for research only"
    )
    assert str(tmp_path) not in (out / "refused.csv").read_text()


def test_if_nothing_can_be_predicted_nothing_is_written(answer):
    out, status, printed = answer({"a.png": b""})
    assert status == 2
    assert "no case was predicted (inputs: 1)" in printed
    assert not out.exists()


def compressed(kind):
    """A calibrated DICOM file of a head, compressed."""
    dataset = dicom(head_image(), SequenceOfUltrasoundRegions=[region()])
    if kind == "RLE":
        dataset.compress(RLELossless, generate_instance_uid=False)
    else:
        dataset.PixelData = encapsulate([jpeg(head_image())])
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return dataset


COLOUR = np.repeat(head_image()[..., None], 3, axis=2)
MEASURED = {
    "region": dicom(head_image(), SequenceOfUltrasoundRegions=[region()]),
    "two equal regions": dicom(head_image(), SequenceOfUltrasoundRegions=[region(), region(RegionLocationMinX0=80)]),
    "region and a graph": dicom(
        head_image(), SequenceOfUltrasoundRegions=[region(RegionSpatialFormat=3, PhysicalUnitsXDirection=4), region()]
    ),
    "negative direction": dicom(head_image(), SequenceOfUltrasoundRegions=[region(PhysicalDeltaY=-SPACING_MM / 10)]),
    "spacing": dicom(head_image(), PixelSpacing=[SPACING_MM, SPACING_MM]),
    "both": dicom(head_image(), PixelSpacing=[SPACING_MM] * 2, SequenceOfUltrasoundRegions=[region()]),
    "colour": dicom(COLOUR, "RGB", PixelSpacing=[SPACING_MM] * 2),
    "inverted": dicom(255 - head_image(), "MONOCHROME1", PixelSpacing=[SPACING_MM] * 2),
    "RLE": compressed("RLE"),
    "JPEG": compressed("JPEG"),
}


def test_dicom_files_are_measured_by_their_own_calibration_and_nothing_else_of_them_is_written(answer, tmp_path):
    frames = np.stack([head_image(), head_image(major=90.0, minor=72.0)])
    files_of = {f"{name.replace(' ', '_')}.dcm": each for name, each in MEASURED.items()}
    files_of["1.2.840.4711"] = dicom(frames, PixelSpacing=[SPACING_MM] * 2)
    out, status, _ = answer(files_of)
    assert status == 0
    measured = hc_mm(out)
    assert measured.pop("1.2.840.4711_frame0002") == pytest.approx(0.9 * HC_MM, rel=0.003)
    assert sorted(measured) == sorted([name.replace(" ", "_") for name in MEASURED] + ["1.2.840.4711_frame0001"])
    assert all(value == pytest.approx(HC_MM, rel=0.003) for value in measured.values())
    assert not any(b"Secret" in content or b"ID-4711" in content for content in text_of(out))
    assert "burned into an image stays" in (out / "index.html").read_text()
    calibration = files.read_csv(out / "cases.csv", ["case"]).set_index("case")["calibration"]
    assert (calibration["region"], calibration["spacing"]) == ("calibrated region", "PixelSpacing")


def test_a_stated_pixel_size_takes_precedence_over_that_of_the_file_and_a_difference_is_noted(answer):
    out, _, _ = answer({"a.dcm": MEASURED["region"]}, "--pixel-size", "0.25")
    assert hc_mm(out)["a"] == pytest.approx(HC_MM / 2, rel=0.003)
    notes = files.read_csv(out / "cases.csv", ["case", "calibration"])["notes"].item()
    assert notes == "calibrated region says 0.5 x 0.5 mm; stated (--pixel-size) was used"


UNCALIBRATED = {
    "none": ({}, "no calibration in the file (neither SequenceOfUltrasoundRegions nor PixelSpacing)"),
    "two that differ": (
        {"SequenceOfUltrasoundRegions": [region(), region(PhysicalDeltaX=0.1, PhysicalDeltaY=0.1)]},
        "2 calibrated regions of different pixel size (0.5 x 0.5 mm and 1 x 1 mm); crop the image to one of them",
    ),
    "resized": (
        {"SequenceOfUltrasoundRegions": [region(RegionLocationMaxX1=319, RegionLocationMaxY1=239)]},
        "the calibrated region reaches to column 319 and row 239 of an image of 160 x 120: the image was resized or "
        "cropped after its calibration",
    ),
    "seconds": (
        {"SequenceOfUltrasoundRegions": [region(PhysicalUnitsXDirection=4)]},
        "1 ultrasound regions, none of them an image calibrated in cm (cm x seconds)",
    ),
    "zero": (
        {"SequenceOfUltrasoundRegions": [region(PhysicalDeltaX=0.0)]},
        "a calibrated region without a positive size of its pixels",
    ),
    "two sources": (
        {"SequenceOfUltrasoundRegions": [region()], "PixelSpacing": [0.1, 0.1]},
        "PixelSpacing is 0.1 x 0.1 mm, but the calibrated region has 0.5 x 0.5 mm",
    ),
    "in cm": ({"PixelSpacing": [0.005, 0.005]}, "PixelSpacing is 0.005 x 0.005 mm; expected 0.02 to 1 mm"),
    "negative": ({"PixelSpacing": [-0.5, 0.5]}, "no calibration in the file"),
}


def test_a_dicom_file_whose_calibration_is_not_sure_is_not_measured_in_mm_and_says_why(answer):
    out, status, _ = answer({f"{name}.dcm": dicom(head_image(), **keys) for name, (keys, _) in UNCALIBRATED.items()})
    assert status == 0
    calibration = files.read_csv(out / "cases.csv", ["case"]).set_index("case")["calibration"]
    for name, (_, reason) in UNCALIBRATED.items():
        assert calibration[name].startswith(reason), name
    assert set(flags(out).values()) == {"no pixel size"}


def without_pixels():
    dataset = dicom(head_image(), Modality="SR")
    del dataset.PixelData
    return dataset


def encrypted():
    dataset = without_pixels()
    dataset.EncryptedAttributesSequence = [region()]
    return dataset


def truncated(tmp_path):
    path = save_dicom(tmp_path / "whole.dcm", dicom(head_image()))
    return path.read_bytes()[:-1000]


def of_syntax(syntax):
    dataset = dicom(head_image())
    dataset.PixelData = encapsulate([b"\0\0\1\xb3" * 8])
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def test_dicom_files_that_hold_no_usable_picture_are_refused_with_the_reason(answer, tmp_path):
    images = {
        "report.dcm": without_pixels(),
        "encrypted.dcm": encrypted(),
        "truncated.dcm": truncated(tmp_path),
        "deep.dcm": dicom(head_image().astype(np.uint16), Modality="CT"),
        "video.dcm": of_syntax(MPEG2MPML),
        "other.dcm": dicom(head_image(), "YBR_PARTIAL_420"),
        "text.dcm": b"no DICOM at all",
        "good.dcm": MEASURED["region"],
    }
    out, status, _ = answer(images)
    assert status == 1
    assert hc_mm(out)["good"] == pytest.approx(HC_MM, rel=0.003)
    expected = {
        "report.dcm": r"contains no picture \(SR: a report, plan, waveform or directory\?\); expected an image",
        "encrypted.dcm": r"encrypted \(Encrypted Attributes Sequence\); expected a file that is not",
        "truncated.dcm": "The number of bytes of pixel data is less than expected",
        "deep.dcm": r"16 bits per channel \(modality CT\); expected 8 bits, as of ultrasound",
        "video.dcm": "compressed as MPEG2 .*, which no installed decoder reads; save it uncompressed, or as JPEG 2000",
        "other.dcm": "photometric interpretation YBR_PARTIAL_420; expected MONOCHROME1, ",
        "text.dcm": "no DICM mark after the first 128 bytes; expected a DICOM file",
    }
    found = refusals(out)
    assert sorted(found) == sorted(expected)
    for name, reason in expected.items():
        assert re.match(f"cannot be read as a DICOM image: {reason}", found[name]), found[name]
