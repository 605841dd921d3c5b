import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from lib.datasets import brain_structures, hc18, ultrasound_fetus
from lib.datasets.phantoms import heads, ultrasound, write_images
from lib.imaging import ellipse
from tests.datasets.phantoms.builders import SEED, read_truth

GREEN, YELLOW = (0, 255, 0), (255, 255, 0)
DIVERSE = "Diverse Fetal Head Images"
GROUPS = {  # stratum: folder, images, segmentation, the cavum's colour
    "trans-thalamic": ("Trans-thalamic", "Trans-thalamic", "Trans-thalamic-Segmentation", GREEN),
    "trans-ventricular": ("Trans-ventricular", "Trans-ventricular", "Trans-ventricular-segmentation-mask", GREEN),
    "trans-cerebellum": ("Trans-cerebellum", "Trans-cerebellum", "Trans-cerebellum-Segmentation", GREEN),
    "diverse": (DIVERSE, "Orginal_train_images_to_959_661", "Test-Dataset-Segmentation", YELLOW),
}
AXES = ("bpd", "ofd", "hc")


def stems(folder):
    return sorted(path.stem for path in folder.glob("*.png"))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_demo_has_one_group_of_the_published_layout(written):
    group = written / "brain/Trans-thalamic"
    assert names(group.parent) == ["Trans-thalamic", "truth.csv"]
    assert names(group) == ["Trans-Thalamic-Pixel-Size.csv", "Trans-thalamic", "Trans-thalamic-Segmentation"]
    labels = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nBrain:255,0,0::\nCSP:0,255,0::\nLV:0,0,255::\n"
    assert (group / "Trans-thalamic-Segmentation/labelmap.txt").read_text() == labels
    table = (group / "Trans-Thalamic-Pixel-Size.csv").read_bytes()
    assert table.startswith(b"\xef\xbb\xbfLabel,Pixel  in mm\nPatient00001_Plane3_1_of_3.png,0.328206\n")


def test_the_demo_s_files_have_the_drawn_frames_and_their_truth(written):
    folder = written / "brain/Trans-thalamic"
    frame, name = heads.draw_frame(SEED, 1, 3, (0.75, 0.65)), "Patient00001_Plane3_3_of_3"
    assert np.array_equal(np.asarray(Image.open(folder / f"Trans-thalamic/{name}.png")), frame.image)
    mask = brain_structures.read_mask((folder / f"Trans-thalamic-Segmentation/SegmentationClass/{name}.png",))
    assert np.array_equal(mask, frame.mask)
    truth = read_truth(written / "brain")
    assert {quantity: truth.loc[name, quantity] for quantity in frame.truth} == frame.truth
    assert truth.loc[name, ["subject", "stratum"]].tolist() == ["00001", "hc2 csp lv"]  # HC 265 mm
    for row in truth.itertuples():
        structures = [structure for structure in ("csp", "lv") if getattr(row, f"{structure}_mm2") > 0]
        assert row.stratum.split() == [f"hc{(row.hc_mm > 180) + (row.hc_mm > 260):d}", *structures]


@pytest.mark.parametrize("stratum", GROUPS)
def test_each_group_has_the_published_folders_and_colours_and_the_truth_s_sizes(written, stratum):
    name, images, segmentation, csp = GROUPS[stratum]
    folder = written / "brain_structures" / name
    masks = folder / segmentation / "SegmentationClass"
    assert stems(folder / images) == stems(masks) != []
    assert f"CSP:{csp[0]},{csp[1]},{csp[2]}::" in (folder / segmentation / "labelmap.txt").read_text()
    truth = read_truth(written / "brain_structures")
    for path in masks.glob("*.png"):
        mask, row = brain_structures.read_mask((path,)), truth.loc[path.stem]
        assert np.array_equal(mask == 2, (np.asarray(Image.open(path)) == csp).all(axis=2))
        spacing = row["spacing_row_mm"], row["spacing_col_mm"]
        areas = np.bincount(mask.ravel(), minlength=4) * np.prod(spacing)
        assert areas[2:] == pytest.approx([row["csp_mm2"], row["lv_mm2"]], abs=1e-4)
        structures = [structure for structure, area in zip(("csp", "lv"), areas[2:]) if area > 0]
        assert row["stratum"] == " ".join([stratum, *structures])
        measured = ellipse.measure_head(mask > 0, spacing)
        assert measured == pytest.approx({q: row[f"{q}_mm"] for q in AXES}, abs=0.3)


def test_pixel_sizes_have_another_format_in_each_group(written):
    forms = (("ventricular", b"Pixel in mm", rb"0\.\d+"), ("cerebellum", b"Pixel  in mm", rb'"0,\d+"'))
    for plane, heading, cell in forms:
        content = (written / f"brain_structures/Trans-{plane}/Trans-{plane}-Pixel-Size.csv").read_bytes()
        assert re.fullmatch(rb"\xef\xbb\xbfLabel,%b\n(Patient\d{5}_\S+\.png,%b\n)+" % (heading, cell), content)


def test_a_patient_s_images_are_in_several_planes_under_one_subject(written):
    truth = read_truth(written / "brain_structures")
    planes = truth[truth["subject"].str.isdigit()].copy()
    planes["group"] = [stratum.split()[0] for stratum in planes["stratum"]]
    assert planes.groupby("subject")["group"].nunique().max() > 1
    assert planes.groupby("subject")["hc_mm"].nunique().max() == 1
    assert [name[7:12] for name in planes.index] == planes["subject"].tolist()
    counts = planes.groupby("subject").size()
    assert all(int(name.rsplit("_", 1)[1]) == counts[row.subject] for name, row in planes.iterrows())


def test_diverse_images_are_of_959_by_661_in_colour_with_hc18_s_names_and_table(written):
    folder = written / "brain_structures" / DIVERSE
    truth = read_truth(written / "brain_structures")
    table = pd.read_csv(folder / "training_set_pixel_size_and_HC.csv")
    assert list(table.columns) == ["filename", "pixel size(mm)", "head circumference (mm)"]
    assert sorted(table["filename"].str.removesuffix(".png")) == stems(folder / "Orginal_train_images_to_959_661")
    for name, pixel_mm, hc_mm in table.itertuples(index=False):
        row = truth.loc[name.removesuffix(".png")]
        assert row["subject"] == f"hc18-{name[:3]}"
        assert hc_mm == pytest.approx(row["hc_mm"], abs=0.005)
        assert row["spacing_row_mm"] == pytest.approx(pixel_mm * 540 / 661)
        assert row["spacing_col_mm"] == pytest.approx(pixel_mm * 800 / 959)
        image = np.asarray(Image.open(folder / "Orginal_train_images_to_959_661" / name))
        assert image.shape == (661, 959, 3)
        assert (image == image[..., :1]).all()


def test_groups_and_rare_structures_have_about_the_published_shares(monkeypatch, tmp_path):
    monkeypatch.setattr(ultrasound, "scene", lambda *_: None)  # masks only
    monkeypatch.setattr(ultrasound, "render", lambda *_: np.zeros(heads.SHAPE, np.uint8))
    monkeypatch.setattr(write_images, "_write_png", lambda *_: None)
    write_images.write_brain_structures(tmp_path, write_images.BRAIN_STRUCTURES_SUBJECTS, write_images.SEED)
    truth = read_truth(tmp_path)
    groups = truth["stratum"].str.split().str[0]
    shares = groups.value_counts(normalize=True)
    drawn = (truth[["csp_mm2", "lv_mm2"]] > 0).groupby(groups).mean()
    assert len(truth) == 208
    assert 0.03 < shares["diverse"] < 0.09
    assert shares["trans-thalamic"] == pytest.approx(0.56, abs=0.1)
    assert drawn.loc["trans-thalamic"].tolist() == pytest.approx([0.37, 0.32], abs=0.05)  # 119 draws
    lv = drawn["lv_mm2"]
    assert lv["trans-cerebellum"] < 0.15 < lv["trans-thalamic"] < lv["trans-ventricular"]


def test_hc18_s_layout_has_images_outlines_and_one_table_that_its_reader_measures_as_drawn(written):
    folder = written / "hc18"
    assert names(folder) == ["training_set", "training_set_pixel_size_and_HC.csv", "truth.csv"]
    truth, (cases, findings) = read_truth(folder), hc18.find_cases(folder, [])
    assert findings == []
    assert stems(folder / "training_set") == sorted([*truth.index, *(f"{name}_Annotation" for name in truth.index)])
    assert {name[:3] for name in truth.index} == {f"{number:03d}" for number in range(6)}
    assert {"000_HC", "000_2HC"} <= set(truth.index)
    for case in cases:
        row, outline = truth.loc[case.name], np.asarray(Image.open(case.mask[0]))
        assert np.asarray(Image.open(case.image)).shape == outline.shape == (270, 400)
        assert set(np.unique(outline)) == {0, 255}
        assert case.reference_mm["hc"] == pytest.approx(row["hc_mm"], abs=0.005)
        measured = ellipse.measure_head(hc18.read_mask(case.mask) > 0, case.spacing_mm)
        assert measured == pytest.approx({q: row[f"{q}_mm"] for q in AXES}, abs=0.3)


def test_the_tumour_s_layout_has_three_classes_in_three_splits_and_outlines_of_one(written):
    folder = written / "tumour"
    truth = read_truth(folder)
    assert names(folder) == ["test", "train", "truth.csv", "validation"]
    for split in ("train", "validation", "test"):
        assert names(folder / split) == ["benign", "malignant", "normal"]
        assert not list((folder / split).glob("[bn]*/*Annotation*"))
    images = {f"{path.parent.name}-{path.stem}": path for path in folder.glob("*/*/*HC.png")}
    assert set(images) == set(truth.index)
    assert truth["subject"].tolist() == truth.index.tolist()
    for tissue in ("benign", "malignant", "normal"):
        cases = [name.removeprefix(f"{tissue}-").split("_") for name in images if name.startswith(tissue)]
        assert sorted(int(number) for number, _ in cases) == list(range(1, len(cases) + 1))
        assert {ending for _, ending in cases} <= {"HC", "2HC"}
    malignant = [path for name, path in images.items() if name.startswith("malignant")]
    elsewhere = [not path.with_name(f"{path.stem}_Annotation.png").is_file() for path in malignant]
    assert 0.1 < np.mean(elsewhere) < 0.7  # 1 - 0.73² - 0.12² - 0.15² = 0.43 are expected


def test_outlines_enclose_the_area_that_truth_says_and_others_have_none(written):
    truth = read_truth(written / "tumour")
    outlines = {f"malignant-{p.stem[:-11]}": p for p in (written / "tumour").glob("*/malignant/*_Annotation.png")}
    for name, path in outlines.items():
        line, row = np.asarray(Image.open(path)), truth.loc[name]
        assert set(np.unique(line)) == {0, 255}
        filled = ndimage.binary_fill_holes(line > 0)
        midway = (filled.sum() + (filled & (line == 0)).sum()) / 2  # between the line's outer and inner edge
        assert midway == pytest.approx(row["lesion_px"], rel=0.02)
        assert (ultrasound_fetus.read_mask((path,)) > 0).sum() == pytest.approx(row["lesion_px"], rel=0.01)
        assert row["lesion_px"] * row["spacing_mm"] ** 2 == pytest.approx(row["lesion_mm2"], rel=1e-4)
        assert row["stratum"] == f"malignant {'large' if row['lesion_px'] > 0.08 * 270 * 400 else 'small'}"
    others = truth.drop(outlines)
    assert (others[["lesion_mm2", "lesion_px"]] == 0).all(axis=None)
    assert [name.split("-")[0] for name in others.index] == others["stratum"].tolist()
    assert set(others["stratum"]) == {"benign", "normal"}
