"""The folder of answers: names, links, maps, and that nothing of others is ever overwritten."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.data.data_manager import DATA_ROOT

from lib.prediction import outputs
from lib.prediction.inputs import Reading, Refusal, find
from lib.prediction.picture import Source
from lib.prediction.pixel_sizes import PixelSizes
from lib.study import files
from tests import builders
from tests.builders_predict import (
    SHAPE,
    dicom,
    head_image,
    predict,
    save_dicom,
    transparent,  # noqa: F401
    write_model,
)


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model.safetensors")


def contents(folder):
    """Bytes of all files by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_call_gives_the_same_bytes_and_replaces_its_own_folder(model, tmp_path, transparent):  # noqa: F811
    image, out = builders.save_png(tmp_path / "in" / "a.png", head_image()), tmp_path / "out"
    assert predict(model, image, out, "--pixel-size", "0.5", "--probabilities") == 0
    first = contents(out)
    assert predict(model, image, out, "--pixel-size", "0.5", "--probabilities") == 0
    assert contents(out) == first
    assert set(first) == {
        *("cases.csv", "measurements.csv", "points.csv", "shapes.csv", "hc18_submission.csv", "index.html"),
        *("predict.json", "masks/a.png", "overlays/a.jpg", "probabilities/a_head.png", "probabilities/a_head_heat.jpg"),
    }
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["in", "model.safetensors", "out"]
    deep = cv2.imread(str(out / "probabilities" / "a_head.png"), cv2.IMREAD_UNCHANGED)
    assert (deep.dtype, deep.shape, deep.max(), deep.min()) == (np.uint16, SHAPE, 65535, 0)
    assert predict(model, image, out) == 0  # fewer files than before: nothing of before is left
    assert not (out / "probabilities").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda out: (out / "mine.txt").write_text("a thesis"),
        lambda out: (out / "measurements.csv").write_text("corrected by hand"),
        lambda out: (out / "predict.json").unlink(),
        lambda out: (out / "predict.json").write_text("[]"),
    ],
    ids=["a file beside", "an edited table", "no record", "another record"],
)
def test_a_folder_that_predict_did_not_write_is_never_overwritten(model, tmp_path, transparent, capsys, change):  # noqa: F811
    image, out = builders.save_png(tmp_path / "in" / "a.png", head_image()), tmp_path / "out"
    assert predict(model, image, out) == 0
    change(out)
    before = contents(out)
    assert predict(model, image, out) == 2
    assert "files are not as predict wrote them, such as" in capsys.readouterr().err
    assert contents(out) == before


def test_a_file_or_the_present_folder_as_the_output_folder_is_refused(model, tmp_path, capsys, monkeypatch):
    image = builders.save_png(tmp_path / "in" / "a.png", head_image())
    monkeypatch.chdir(tmp_path)
    assert predict(model, image, image) == 2
    assert capsys.readouterr().err == f"--out {image}: a file; expected a folder, new or written by predict\n"
    assert predict(model, image, Path(".")) == 2
    assert "files are not as predict wrote them" in capsys.readouterr().err
    assert predict(model, image, tmp_path / "out", "--tta", "on", "--device", "gpu") == 2
    assert "device = 'gpu'   not available on this machine" in capsys.readouterr().err


def test_an_error_in_the_middle_leaves_the_folder_of_before(model, tmp_path, transparent, monkeypatch):  # noqa: F811
    image, out = builders.save_png(tmp_path / "in" / "a.png", head_image()), tmp_path / "out"
    assert predict(model, image, out) == 0
    before = contents(out)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(outputs, "write_tables", interrupt)
    assert predict(model, image, out) == 130
    assert contents(out) == before
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["in", "model.safetensors", "out"]


def test_links_are_followed_and_files_of_one_name_are_told_apart(tmp_path):
    for place in ("scans/anna", "scans/berta", "elsewhere"):
        builders.save_png(tmp_path / place / "head.png", head_image())
    builders.save_png(tmp_path / "elsewhere" / "only.png", head_image())
    save_dicom(tmp_path / "scans" / "1.2.840.10008", dicom(head_image()))
    (tmp_path / "scans" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    shutil.copy(tmp_path / "scans" / "anna" / "head.png", tmp_path / "scans" / "out.png")
    builders.save_png(tmp_path / "scans" / "answers" / "masks" / "head.png", head_image())
    listing = find(
        [tmp_path / "scans", tmp_path / "scans" / "out.png", tmp_path / "no"], False, tmp_path / "scans" / "answers"
    )
    assert [source.case for source in listing.sources] == [
        *("1.2.840.10008", "anna/head", "berta/head", "linked/head", "only", "out"),
    ]
    assert [(each.file, each.reason) for each in listing.refused] == [("no", "no such file or folder")]
    assert listing.sources[-1].file == "out.png"


def test_a_volume_for_a_model_of_images_and_the_reverse_are_refused(tmp_path):
    image = builders.save_png(tmp_path / "a.png", head_image())
    (tmp_path / "a.nii.gz").write_bytes(b"")
    sizes, limits = PixelSizes(), (0.02, 1.0)
    of_images, of_volumes = Reading(False, 1, sizes, limits), Reading(True, 3, sizes, limits)
    assert of_images.read(Source("a", tmp_path / "a.nii.gz", "a.nii.gz")) == Refusal(
        "a.nii.gz", "a volume; expected an image, since the model is of images"
    )
    assert of_volumes.read(Source("a", image, "a.png")) == Refusal(
        "a.png", "a single file; the model is of volumes: folders of slices, or NIfTI"
    )


PYDICOM = Path(DATA_ROOT) / "test_files"
PICTURES = {  # number of frames of the files of 8 bits that pydicom ships
    **dict.fromkeys(("ExplVR_BigEnd", "JPEGLSNearLossless_08", "examples_jpeg2k", "examples_palette"), 1),
    **dict.fromkeys(("examples_rgb_color", "image_dfl", "SC_jpeg_no_color_transform", "SC_rgb_jls_lossy_line"), 1),
    **dict.fromkeys(("SC_jpeg_no_color_transform_2", "SC_rgb_jls_lossy_sample", "SC_ybr_full_422_uncompressed"), 1),
    **dict.fromkeys(("SC_rgb_dcmtk_+eb+cr", "SC_rgb_dcmtk_+eb+cy+n1", "SC_rgb_dcmtk_+eb+cy+n2"), 1),
    **dict.fromkeys(("SC_rgb_dcmtk_+eb+cy+np", "SC_rgb_dcmtk_+eb+cy+s2", "SC_rgb_dcmtk_+eb+cy+s4"), 1),
    **dict.fromkeys(("SC_rgb_gdcm_KY", "SC_rgb_jpeg", "SC_rgb_jpeg_app14_dcmd", "SC_rgb_jpeg_dcmd", "SC_rgb_rle"), 1),
    **dict.fromkeys(("SC_rgb_jpeg_dcmtk", "SC_rgb_jpeg_gdcm", "SC_rgb_jpeg_lossy_gdcm", "SC_rgb_small_odd"), 1),
    **dict.fromkeys(("SC_rgb_small_odd_big_endian", "SC_rgb_small_odd_jpeg"), 1),
    **{"SC_rgb_rle_2frame": 2, "examples_ybr_color": 30},
}


@pytest.mark.filterwarnings("ignore")
def test_every_file_that_pydicom_ships_is_read_or_refused_with_a_reason():
    reading, found, reasons = Reading(False, 1, PixelSizes(), (0.02, 1.0)), {}, []
    for path in (each for each in sorted(PYDICOM.rglob("*")) if each.is_file()):
        read = reading.read(Source(path.stem, path, path.name))
        if isinstance(read, Refusal):
            reasons.append(read.reason)
        else:
            found[path.stem] = len(read)
            assert all(each.pixels.dtype == np.uint8 and each.pixels.ndim == 2 for each in read), path
            assert all(each.calibration for each in read), path
    assert found == PICTURES
    assert len(reasons) > 100
    assert all(
        (reason.startswith("cannot be read as a") and "expected" in reason) or "decode" in reason for reason in reasons
    )


def test_pydicom_s_own_colour_files_are_grey_by_luma_and_lossless_jpeg_equals_raw():
    reading = Reading(False, 1, PixelSizes(), (0.02, 1.0))
    read = {
        n: reading.read(Source(n, PYDICOM / f"{n}.dcm", n))[0]
        for n in ("SC_rgb_jpeg_gdcm", "SC_rgb_rle", "SC_rgb_gdcm_KY")
    }
    assert np.array_equal(read["SC_rgb_jpeg_gdcm"].pixels, read["SC_rgb_rle"].pixels)  # lossless JPEG, run lengths
    assert np.abs(read["SC_rgb_gdcm_KY"].pixels.astype(int) - read["SC_rgb_rle"].pixels).max() <= 3  # JPEG 2000
    assert read["SC_rgb_rle"].pixels[5, 50] == 76  # pure red


def test_the_record_names_models_and_versions(model, tmp_path, transparent):  # noqa: F811
    image, out = builders.save_png(tmp_path / "in" / "a.png", head_image()), tmp_path / "out"
    assert predict(model, image, out) == 0
    record = files.read_json(out / "predict.json")
    assert list(record["models"]) == ["model.safetensors"]
    assert record["use"] == "not a medical device; for research only"
    assert "torch" in record["versions"]


def test_a_picture_keeps_its_colours_as_jpeg_is_averaged_for_the_page_and_refused_if_too_long():
    picture = np.full((623, 801, 3), (213, 94, 0), np.uint8)  # vermilion, RGB
    for content, shape in (
        (outputs.jpeg(picture, outputs.QUALITY), (623, 801)),
        (outputs.thumbnail(picture), (311, 400)),
    ):
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert decoded.shape == (*shape, 3)
        assert np.abs(decoded.astype(int) - (213, 94, 0)).max() <= 3  # rounding of the colour space
    with pytest.raises(ValueError, match="drawn 1 x 65501 pixels; expected at most 65500 a side"):
        outputs.jpeg(np.zeros((65501, 1, 3), np.uint8), outputs.QUALITY)
