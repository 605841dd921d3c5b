import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from lib.datasets import brain_structures, hc18, ultrasound_fetus
from lib.datasets.phantoms import heads, lesions, ultrasound, write_images
from lib.imaging import ellipse
from lib.study import files

SEED = 12
SUBJECTS = {"brain": 8, "brain_structures": 28, "hc18": 6, "tumour": 40}
WRITERS = {name: getattr(write_images, f"write_{name}") for name in SUBJECTS}
COLOURS = {(0, 0, 0): 0, (255, 0, 0): 1, (0, 0, 255): 3}  # and the cavum's, which differs
GROUPS = {
    "Trans-thalamic": ("Trans-thalamic", "Trans-thalamic-Segmentation", (0, 255, 0)),
    "Trans-ventricular": ("Trans-ventricular", "Trans-ventricular-segmentation-mask", (0, 255, 0)),
    "Trans-cerebellum": ("Trans-cerebellum", "Trans-cerebellum-Segmentation", (0, 255, 0)),
    "Diverse Fetal Head Images": (
        "Orginal_train_images_to_959_661",
        "Test-Dataset-Segmentation",
        (255, 255, 0),
    ),
}
DIVERSE = "Diverse Fetal Head Images"
STRATA = dict(zip(GROUPS, ("trans-thalamic", "trans-ventricular", "trans-cerebellum", "diverse")))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder for each writer."""
    root = tmp_path_factory.mktemp("raw")
    for name, write in WRITERS.items():
        (root / name).mkdir()
        write(root / name, SUBJECTS[name], SEED)
    return root


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_truth(folder):
    return files.read_csv(folder / "truth.csv", []).set_index("case")


def classes_of(path, csp):
    """Class indices of a colour mask, by Pillow; a colour without a class becomes 99."""
    pixels = np.asarray(Image.open(path))
    mask = np.full(pixels.shape[:2], 99)
    for colour, index in (COLOURS | {csp: 2}).items():
        mask[(pixels == colour).all(axis=2)] = index
    return mask


def stems(folder):
    return sorted(path.stem for path in folder.glob("*.png"))


# All


@pytest.mark.parametrize("name", WRITERS)
def test_one_seed_gives_the_same_bytes(written, tmp_path, name):
    WRITERS[name](tmp_path, SUBJECTS[name], SEED)
    assert contents(tmp_path) == contents(written / name)


@pytest.mark.parametrize(("name", "fewer"), [("brain", 3), ("brain_structures", 9), ("hc18", 2), ("tumour", 9)])
def test_another_number_of_subjects_leaves_the_common_images_equal(written, tmp_path, name, fewer):
    WRITERS[name](tmp_path, fewer, SEED)
    whole, part = contents(written / name), contents(tmp_path)
    images = [path for path in part if path.suffix == ".png"]
    assert len(images) >= fewer
    assert all(part[path] == whole[path] for path in images)


@pytest.mark.parametrize("name", WRITERS)
def test_truth_has_one_row_an_image_and_text_for_its_names(written, name):
    images = [p for p in (written / name).rglob("*.png") if "SegmentationClass" not in p.parts]
    truth = read_truth(written / name)
    assert truth.index.is_unique
    assert len(truth) == sum("Annotation" not in path.stem for path in images)
    assert truth.notna().all(axis=None)


@pytest.mark.parametrize(
    ("name", "most"), [("brain", 99999), ("brain_structures", 9999), ("hc18", 1000), ("tumour", 99999)]
)
def test_a_number_of_subjects_that_names_cannot_hold_is_refused(tmp_path, name, most):
    for subjects in (0, -1, most + 1):
        with pytest.raises(ValueError, match=f"subjects = {subjects}   not allowed; 1 to {most}"):
            WRITERS[name](tmp_path, subjects, SEED)
    assert list(tmp_path.iterdir()) == []


def test_no_two_phantoms_show_one_head(written):
    sizes = [set(read_truth(written / name)["hc_mm"]) for name in ("brain", "brain_structures", "hc18")]
    assert len(set.union(*sizes)) == sum(map(len, sizes))


# The demo


def test_the_demo_has_one_group_of_the_published_layout(written):
    folder = written / "brain"
    assert sorted(path.name for path in folder.iterdir()) == ["Trans-thalamic", "truth.csv"]
    assert sorted(path.name for path in (folder / "Trans-thalamic").iterdir()) == [
        "Trans-Thalamic-Pixel-Size.csv",
        "Trans-thalamic",
        "Trans-thalamic-Segmentation",
    ]
    labels = (folder / "Trans-thalamic/Trans-thalamic-Segmentation/labelmap.txt").read_text()
    assert labels.startswith("# label:color_rgb:parts:actions\nbackground:0,0,0::\n")
    assert labels.endswith("Brain:255,0,0::\nCSP:0,255,0::\nLV:0,0,255::\n")
    table = (folder / "Trans-thalamic/Trans-Thalamic-Pixel-Size.csv").read_bytes()
    assert table.startswith(b"\xef\xbb\xbfLabel,Pixel  in mm\nPatient00001_Plane3_1_of_3.png,0.328206\n")


def test_the_demo_s_frames_lie_in_its_files(written):
    folder = written / "brain/Trans-thalamic"
    frame = heads.draw_frame(SEED, 1, 2, (0.75, 0.65))
    name = "Patient00001_Plane3_2_of_3.png"
    assert np.array_equal(np.asarray(Image.open(folder / "Trans-thalamic" / name)), frame.image)
    mask = classes_of(folder / "Trans-thalamic-Segmentation/SegmentationClass" / name, (0, 255, 0))
    assert np.array_equal(mask, frame.mask)


def test_the_demo_s_truth_is_that_of_its_frames_with_size_and_structures_as_stratum(written):
    truth = read_truth(written / "brain")
    frame = heads.draw_frame(SEED, 1, 3, (0.75, 0.65))
    row = truth.loc["Patient00001_Plane3_3_of_3"]
    assert {name: row[name] for name in frame.truth} == frame.truth
    assert (row["subject"], row["stratum"]) == ("00001", "hc2 csp lv")  # HC 265 mm
    for row in truth.itertuples():
        shown = [name for name in ("csp", "lv") if getattr(row, f"{name}_mm2") > 0]
        assert row.stratum.split() == [f"hc{(row.hc_mm > 180) + (row.hc_mm > 260):d}", *shown]


def test_the_demo_s_size_is_about_250_images():
    assert len(write_images._frames(write_images.SEED, 0, write_images.BRAIN_SUBJECTS, 99999)) == 254
    assert 150 * np.array(write_images.FRAME_SHARES) @ [1, 2, 3] == pytest.approx(240)


# Four groups


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_has_the_published_folders_and_colours(written, group):
    images, segmentation, csp = GROUPS[group]
    folder = written / "brain_structures" / group
    masks = folder / segmentation / "SegmentationClass"
    assert stems(folder / images) == stems(masks) != []
    assert f"CSP:{csp[0]},{csp[1]},{csp[2]}::" in (folder / segmentation / "labelmap.txt").read_text()
    found = [classes_of(path, csp) for path in sorted(masks.glob("*.png"))]
    assert max(mask.max() for mask in found) < 99
    truth = read_truth(written / "brain_structures").loc[stems(masks)]
    for mask, row in zip(found, truth.itertuples()):
        pixel_mm2 = row.spacing_row_mm * row.spacing_col_mm
        assert (mask == 2).sum() * pixel_mm2 == pytest.approx(row.csp_mm2, abs=1e-4)
        assert (mask == 3).sum() * pixel_mm2 == pytest.approx(row.lv_mm2, abs=1e-4)
        shown = [name for name, index in (("csp", 2), ("lv", 3)) if (mask == index).any()]
        assert row.stratum == " ".join([STRATA[group], *shown])


def test_pixel_sizes_come_in_three_forms_all_with_a_byte_order_mark(written):
    folder = written / "brain_structures"
    tables = {
        "Trans-thalamic/Trans-Thalamic-Pixel-Size.csv": ("Label,Pixel  in mm", r"^Patient\d{5}_\S+\.png,0\.\d+$"),
        "Trans-ventricular/Trans-ventricular-Pixel-Size.csv": ("Label,Pixel in mm", r"^Patient\d{5}_\S+\.png,0\.\d+$"),
        "Trans-cerebellum/Trans-cerebellum-Pixel-Size.csv": ("Label,Pixel  in mm", r'^Patient\d{5}_\S+\.png,"0,\d+"$'),
    }
    truth = read_truth(folder)
    for name, (heading, form) in tables.items():
        content = (folder / name).read_bytes()
        assert content.startswith(b"\xef\xbb\xbf")
        first, *rows = content.decode("utf-8-sig").splitlines()
        assert first == heading
        assert pd.Series(rows).str.match(form).all()
        sizes = {row.split(".png")[0]: float(row.split(",", 1)[1].strip('"').replace(",", ".")) for row in rows}
        assert sorted(sizes) == stems((folder / name).parent / name.split("/")[0])
        assert sizes == pytest.approx(truth.loc[list(sizes), "spacing_row_mm"].to_dict())


def test_a_patient_s_images_lie_in_several_planes_under_one_subject(written):
    truth = read_truth(written / "brain_structures")
    planes = truth[truth["subject"].str.isdigit()].copy()
    planes["group"] = [stratum.split()[0] for stratum in planes["stratum"]]
    assert planes.groupby("subject")["group"].nunique().max() > 1
    assert planes.groupby("subject")["hc_mm"].nunique().max() == 1
    assert [name[7:12] for name in planes.index] == planes["subject"].tolist()
    last = planes.groupby("subject").size()
    assert all(int(name.rsplit("_", 1)[1]) == last[row.subject] for name, row in planes.iterrows())


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


def test_the_project_s_biometry_finds_the_truth_in_every_group(written):
    truth = read_truth(written / "brain_structures")
    for group, (_, segmentation, csp) in GROUPS.items():
        for path in (written / "brain_structures" / group / segmentation / "SegmentationClass").glob("*.png"):
            row = truth.loc[path.stem]
            spacing = row["spacing_row_mm"], row["spacing_col_mm"]
            found = ellipse.measure_head(classes_of(path, csp) > 0, spacing)
            assert found == pytest.approx({q: row[f"{q}_mm"] for q in ("bpd", "ofd", "hc")}, abs=0.3)


def test_groups_and_rare_structures_have_about_the_published_shares(monkeypatch, tmp_path):
    blank = np.zeros(heads.SHAPE, np.uint8)
    monkeypatch.setattr(ultrasound, "scene", lambda *_: None)  # masks only
    monkeypatch.setattr(ultrasound, "render", lambda *_: blank)
    monkeypatch.setattr(write_images, "_write_png", lambda *_: None)
    write_images.write_brain_structures(tmp_path, write_images.BRAIN_STRUCTURES_SUBJECTS, write_images.SEED)
    truth = read_truth(tmp_path)
    groups = pd.Series({group: truth["stratum"].str.startswith(STRATA[group]).sum() for group in GROUPS})
    shown = {
        group: truth[truth["stratum"].str.startswith(STRATA[group])][["csp_mm2", "lv_mm2"]] > 0 for group in GROUPS
    }
    assert len(truth) == 208
    assert 0.03 < groups[DIVERSE] / len(truth) < 0.09
    assert groups["Trans-thalamic"] / len(truth) == pytest.approx(0.56, abs=0.1)
    assert shown["Trans-thalamic"].mean().tolist() == pytest.approx([0.37, 0.32], abs=0.05)  # 119 draws
    lv = {group: table["lv_mm2"].mean() for group, table in shown.items()}
    assert lv["Trans-cerebellum"] < 0.15 < lv["Trans-thalamic"] < lv["Trans-ventricular"]


def test_alzubaidi_s_reader_gives_the_drawn_cases(written):
    for name in ("brain", "brain_structures"):
        groups = [group for group in brain_structures.GROUPS if name != "brain" or "thalamic" in group.lower()]
        found, findings = brain_structures.find_cases(written / name, groups)
        truth = read_truth(written / name)
        assert [finding for finding in findings if finding.severity == "stop"] == []
        assert {case.name: case.subject for case in found} == truth["subject"].to_dict()
        for case in found:
            row = truth.loc[case.name]
            assert case.spacing_mm == pytest.approx((row["spacing_row_mm"], row["spacing_col_mm"]))
            counts = np.bincount(brain_structures.read_mask(case.mask).ravel(), minlength=4)
            areas = counts * row["spacing_row_mm"] * row["spacing_col_mm"]
            assert areas[2:] == pytest.approx([row["csp_mm2"], row["lv_mm2"]], abs=1e-4)


# HC18


def test_hc18_s_layout_has_images_outlines_and_one_table(written):
    folder = written / "hc18"
    assert sorted(path.name for path in folder.iterdir()) == [
        "training_set",
        "training_set_pixel_size_and_HC.csv",
        "truth.csv",
    ]
    names = sorted(read_truth(folder).index)
    assert stems(folder / "training_set") == sorted([*names, *(f"{name}_Annotation" for name in names)])
    assert {name[:3] for name in names} == {f"{number:03d}" for number in range(6)}
    assert {"000_HC", "000_2HC"} <= set(names)
    for path in (folder / "training_set").glob("*.png"):
        pixels = np.asarray(Image.open(path))
        assert pixels.shape == (270, 400)
        assert "Annotation" not in path.stem or set(np.unique(pixels)) == {0, 255}


def test_hc18_s_reader_gives_the_drawn_heads(written):
    found, findings = hc18.find_cases(written / "hc18", [])
    truth = read_truth(written / "hc18")
    assert findings == []
    assert {case.name: case.subject for case in found} == truth["subject"].to_dict()
    for case in found:
        row = truth.loc[case.name]
        assert case.spacing_mm == pytest.approx((row["spacing_row_mm"], row["spacing_col_mm"]))
        assert case.reference_mm["hc"] == pytest.approx(row["hc_mm"], abs=0.005)
        measured = ellipse.measure_head(hc18.read_mask(case.mask) > 0, case.spacing_mm)
        assert measured == pytest.approx({q: row[f"{q}_mm"] for q in ("bpd", "ofd", "hc")}, abs=0.3)


# Tumours


def test_the_tumour_s_layout_has_three_classes_in_three_splits_and_outlines_of_one(written):
    folder = written / "tumour"
    assert sorted(path.name for path in folder.iterdir()) == ["test", "train", "truth.csv", "validation"]
    for split in ("train", "validation", "test"):
        assert sorted(path.name for path in (folder / split).iterdir()) == ["benign", "malignant", "normal"]
        assert not list((folder / split / "benign").glob("*Annotation*"))
        assert not list((folder / split / "normal").glob("*Annotation*"))
    for tissue in ("benign", "malignant", "normal"):
        names = [path.stem for path in folder.glob(f"*/{tissue}/*HC.png")]
        assert sorted(int(name.split("_")[0]) for name in names) == list(range(1, len(names) + 1))
        assert {name.split("_")[1] for name in names} <= {"HC", "2HC"}
    outlines = [path.stem.removesuffix("_Annotation") for path in folder.glob("*/malignant/*_Annotation.png")]
    assert sorted(outlines) == sorted(path.stem for path in folder.glob("*/malignant/*HC.png"))


def test_tumour_cases_are_named_by_class_and_stem_and_a_third_have_outlines_elsewhere(written):
    folder = written / "tumour"
    truth = read_truth(folder)
    images = {f"{path.parent.name}-{path.stem}": path for path in folder.glob("*/*/*HC.png")}
    assert set(images) == set(truth.index)
    assert truth["subject"].tolist() == truth.index.tolist()
    apart = [
        not path.with_name(f"{path.stem}_Annotation.png").is_file()
        for name, path in images.items()
        if name.startswith("malignant")
    ]
    assert 0.1 < np.mean(apart) < 0.7  # 1 - 0.73² - 0.12² - 0.15² = 0.43 are expected


def test_outlines_enclose_the_area_that_truth_says(written):
    folder = written / "tumour"
    truth = read_truth(folder)
    for path in folder.glob("*/malignant/*_Annotation.png"):
        line = np.asarray(Image.open(path))
        row = truth.loc[f"malignant-{path.stem.removesuffix('_Annotation')}"]
        assert set(np.unique(line)) == {0, 255}
        filled = ndimage.binary_fill_holes(line > 0)
        middle = (filled.sum() + (filled & (line == 0)).sum()) / 2
        assert middle == pytest.approx(row["lesion_px"], rel=0.02)
        assert row["lesion_px"] * row["spacing_mm"] ** 2 == pytest.approx(row["lesion_mm2"], rel=1e-4)
        assert row["stratum"] == f"malignant {'large' if row['lesion_px'] > 0.08 * 270 * 400 else 'small'}"


def test_tissue_without_a_mass_has_no_area_and_its_class_as_stratum(written):
    truth = read_truth(written / "tumour")
    others = truth[~truth["stratum"].str.startswith("malignant")]
    assert set(others["stratum"]) == {"benign", "normal"}
    assert (others["lesion_mm2"] == 0).all()
    assert [name.split("-")[0] for name in others.index] == others["stratum"].tolist()


def test_splits_and_classes_have_about_the_published_shares(monkeypatch, tmp_path):
    frame = lesions.draw_frame(1, 1, True)
    monkeypatch.setattr(lesions, "draw_frame", lambda *_: frame)
    monkeypatch.setattr(write_images, "_write_png", lambda path, _: path.touch())
    write_images.write_tumour(tmp_path, 1000, SEED)
    classes = pd.Series([path.parent.name for path in tmp_path.glob("*/*/*HC.png")]).value_counts(normalize=True)
    assert classes.to_dict() == pytest.approx({"malignant": 0.6, "benign": 0.2, "normal": 0.2}, abs=0.05)
    for pattern in ("*/*/*HC.png", "*/malignant/*_Annotation.png"):
        splits = pd.Series([path.parts[-3] for path in tmp_path.glob(pattern)]).value_counts(normalize=True)
        assert splits.to_dict() == pytest.approx({"train": 0.73, "validation": 0.12, "test": 0.15}, abs=0.05)


def test_the_kaggle_layout_s_reader_gives_the_drawn_masses(written):
    found, findings = ultrasound_fetus.find_cases(written / "tumour", ["malignant"])
    truth = read_truth(written / "tumour")
    assert [finding for finding in findings if finding.severity == "stop"] == []
    assert sorted(case.name for case in found) == sorted(truth.index[truth["lesion_mm2"] > 0])
    for case in found:
        assert case.spacing_mm is None
        area = (ultrasound_fetus.read_mask(case.mask) > 0).sum()
        assert area == pytest.approx(truth.loc[case.name, "lesion_px"], rel=0.01)


def test_a_folder_that_is_not_empty_is_no_place_to_write(written, tmp_path):
    shutil.copytree(written / "tumour", tmp_path / "tumour")
    with pytest.raises(FileExistsError):
        write_images.write_tumour(tmp_path / "tumour", 3, SEED)
