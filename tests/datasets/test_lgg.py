"""The layout of the LGG brain MRI data on folders of three tiny slices."""

import numpy as np
import pytest
from PIL import Image

from lib.data import cases
from lib.datasets import lgg
from lib.imaging import image_files

NAME = "TCGA_CS_4941_19960909"
SHAPE = (4, 5)


def slice_of(number):
    """An image whose every grey value tells slice and channel."""
    return np.stack([np.arange(20, dtype=np.uint8).reshape(SHAPE) + 20 * c + 60 * (number % 4) for c in range(3)], -1)


def lesion(*places):
    mask = np.zeros(SHAPE, np.uint8)
    for place in places:
        mask[place] = 255
    return mask


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_patient(root, name=NAME, numbers=(1, 2, 3), marked=2):
    """Slices with masks; one of them shows two lesion pixels."""
    for number in numbers:
        save(root / name / f"{name}_{number}.tif", slice_of(number))
        mask = lesion((1, 2), (2, 2)) if number == marked else lesion()
        save(root / name / f"{name}_{number}_mask.tif", mask)
    return root / name


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "kaggle_3m"
    write_patient(folder)
    return folder


@pytest.fixture
def patient(root):
    return root / NAME


def only_case(folder):
    (case,) = lgg.find_cases(folder, ())[0]
    return case


def checks(folder):
    """(severity, check, case) of all findings but the note that no pixel size is known."""
    return [
        (f.severity, f.check.name, f.case) for f in lgg.find_cases(folder, ())[1] if f.check.name != "no pixel size"
    ]


def one(folder, check):
    (found,) = [f for f in lgg.find_cases(folder, ())[1] if f.check.name == check]
    return found


# A sound folder


def test_a_patient_is_a_case_whose_subject_and_institution_stand_in_the_folder_s_name(root):
    case = only_case(root)
    assert (case.name, case.subject, case.stratum) == (NAME, "TCGA_CS_4941", "CS")
    assert (case.image, case.mask) == (root / NAME, (root / NAME,))
    assert (case.spacing_mm, case.slice_mm, case.split, case.shows) == (None, None, "", "either")
    assert checks(root) == []


def test_that_no_pixel_size_is_published_is_a_note(root):
    found = one(root, "no pixel size")
    assert (found.severity, found.found) == ("note", "none is published, no spacing.csv")


def test_the_layout_s_folder_and_the_one_around_it_are_read_alike(root):
    assert only_case(root.parent) == only_case(root)
    assert only_case(root.rename(root.with_name("Kaggle_3M")).parent).name == NAME


def test_files_beside_the_patients_are_passed_over(root):
    for name in ("data.csv", "README.md", ".DS_Store"):
        (root / name).touch()
    (root / ".cache").mkdir()
    assert checks(root) == []


def test_two_scans_of_one_patient_are_two_cases_of_one_subject(root):
    write_patient(root, "TCGA_CS_4941_19970102")
    found = lgg.find_cases(root, ())[0]
    assert [case.name for case in found] == [NAME, "TCGA_CS_4941_19970102"]
    assert {case.subject for case in found} == {"TCGA_CS_4941"}
    assert checks(root) == []


def test_slices_stand_in_order_of_their_numbers_and_not_of_their_names(tmp_path):
    folder = write_patient(tmp_path, numbers=(*range(1, 12), 12), marked=10)
    image, mask = lgg.read_image(folder), lgg.read_mask((folder,))
    assert image.shape == (12, 4, 5, 3)
    assert mask.shape == (12, 4, 5)
    assert image[:, 0, 0, 0].tolist() == [60 * (number % 4) for number in range(1, 13)]
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [9]


def test_an_image_is_read_as_written_with_flair_in_the_middle(patient):
    image = lgg.read_image(patient)
    assert image.dtype == np.uint8
    assert all(np.array_equal(image[place], slice_of(place + 1)) for place in range(3))
    assert image[1, 0, 0].tolist() == [120, 140, 160]
    assert lgg.CHANNELS == ("pre-contrast", "FLAIR", "post-contrast")


def test_a_mask_is_0_and_1_where_files_hold_0_and_255_or_0_and_1(patient):
    expected = np.zeros((3, *SHAPE), np.uint8)
    expected[1, 1:3, 2] = 1
    for high in (255, 1):
        save(patient / f"{NAME}_2_mask.tif", np.where(lesion((1, 2), (2, 2)) > 0, high, 0).astype(np.uint8))
        mask = lgg.read_mask((patient,))
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, expected)


def test_masks_are_read_by_the_reader_that_is_given(patient):
    seen = []

    def read(path):
        seen.append(path.name)
        return image_files.read_pixels(path)

    lgg.read_mask((patient,), read=read)
    assert seen == [f"{NAME}_{number}_mask.tif" for number in (1, 2, 3)]


def test_compressed_slices_and_upper_case_suffixes_are_read(patient):
    save(patient / f"{NAME}_2.tif", slice_of(2), compression="tiff_adobe_deflate")
    (patient / f"{NAME}_3.tif").rename(patient / f"{NAME}_3.TIF")
    assert np.array_equal(lgg.read_image(patient)[1], slice_of(2))
    assert checks(patient.parent) == []


# What is wrong with a folder


def stopped(root, check):
    """The one finding of a patient that is left out because of it."""
    assert lgg.find_cases(root, ())[0] == []
    found = one(root, check)
    assert (found.severity, found.case) == ("stop", NAME)
    return found


def test_a_missing_slice_number_stops_and_names_the_gap(root, patient):
    write_patient(root, numbers=range(1, 8))
    for end in ("", "_mask"):
        (patient / f"{NAME}_4{end}.tif").unlink()
    found = stopped(root, "missing slice number")
    assert (found.found, found.expected) == ("slices 1-3, 5-7", "1 to 7 without a gap")
    with pytest.raises(ValueError, match=rf"{NAME}: missing slice number: found slices 1-3, 5-7; expected 1 to 7"):
        lgg.read_image(patient)


def test_numbers_from_0_stop(tmp_path):
    write_patient(tmp_path, numbers=(0, 1, 2))
    assert stopped(tmp_path, "missing slice number").found == "slices 0-2"


def test_a_slice_without_mask_stops(root, patient):
    (patient / f"{NAME}_2_mask.tif").unlink()
    found = stopped(root, "slice without mask")
    assert (found.found, found.expected) == ("slices 2", f"{NAME}_2_mask.tif")
    with pytest.raises(ValueError, match="slice without mask: found slices 2"):
        lgg.read_mask((patient,))


def test_a_mask_without_slice_stops(root, patient):
    (patient / f"{NAME}_3.tif").unlink()
    found = stopped(root, "mask without slice")
    assert (found.found, found.expected) == ("masks 3", f"{NAME}_3.tif")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_volume_of_fewer_than_three_slices_stops(tmp_path, count):
    write_patient(tmp_path, "TCGA_HT_7602_19951103")
    (tmp_path / NAME).mkdir()
    write_patient(tmp_path, numbers=range(1, count + 1))
    found, findings = lgg.find_cases(tmp_path, ())
    assert [case.stratum for case in found] == ["HT"]
    (finding,) = [each for each in findings if each.severity == "stop"]
    assert (finding.check.name, finding.case, finding.found) == ("too few slices", NAME, f"{count} slices")
    assert finding.expected == "needs at least 3 slices: without the end slices nothing is left"


def test_two_files_of_one_slice_stop(root, patient):
    save(patient / f"{NAME}_02.tif", slice_of(2))
    assert stopped(root, "two files of one slice").found == f"{NAME}_02.tif and {NAME}_2.tif"


def test_all_faults_of_a_patient_are_told_at_once(root, patient):
    (patient / f"{NAME}_1.tif").unlink()
    (patient / f"{NAME}_2_mask.tif").unlink()
    assert checks(root) == [("stop", "slice without mask", NAME), ("stop", "mask without slice", NAME)]


@pytest.mark.parametrize(
    "name", ["notes.txt", f"{NAME}.tif", f"{NAME}_2.png", f"{NAME}_a.tif", "TCGA_CS_4942_19960909_1.tif"]
)
def test_a_foreign_file_is_left_out_with_a_warning(root, patient, name):
    (patient / name).touch()
    (patient / "._hidden").touch()
    found = one(root, "unknown file")
    assert (found.severity, found.case, found.found) == ("warn", NAME, f"{name}: left out")
    assert lgg.read_image(patient).shape == (3, 4, 5, 3)
    assert only_case(root).name == NAME


@pytest.mark.parametrize("name", ["TCGA_CS_4941", "TCGA_CS_4941_1996", "Patient 1", "tcga_cs_4941_19960909"])
def test_a_folder_of_another_name_is_left_out_with_a_warning(root, name):
    if (root / name).exists():
        pytest.skip("this disk takes upper and lower case for one name")
    (root / name).mkdir()
    assert checks(root) == [("warn", "unknown folder", name)]


def test_a_folder_of_another_layout_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "training_set").mkdir()
    expected = r"found \['training_set'\]; expected kaggle_3m/ with folders such as TCGA_CS_4941_19960909"
    with pytest.raises(ValueError, match=expected):
        lgg.find_cases(tmp_path, ())
    with pytest.raises(ValueError, match="none: found no such folder; expected kaggle_3m/"):
        lgg.find_cases(tmp_path / "none", ())


def test_a_patient_s_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"{NAME}: no such folder"):
        lgg.read_mask((tmp_path / NAME,))


# What is wrong with a file


def rgba():
    return np.dstack([slice_of(2), np.full(SHAPE, 255, np.uint8)])


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (rgba(), r"4 channels \(mode RGBA\)"),
        (slice_of(2)[..., 0], r"1 channels \(mode L\)"),
        (slice_of(2)[..., 0].astype(np.uint16) * 257, "16 bits a channel"),
        (slice_of(2)[..., 0].astype(np.float32), "mode F, float32"),
        (slice_of(2)[:3], r"\(rows, columns\) \(3, 5\); expected \(4, 5\) as in the first slice"),
    ],
)
def test_a_slice_of_another_form_is_refused_by_name(patient, pixels, found):
    save(patient / f"{NAME}_2.tif", pixels)
    with pytest.raises(ValueError, match=rf"{NAME}_2\.tif: {found}"):
        lgg.read_image(patient)


def test_a_slice_of_four_inks_is_refused_and_not_taken_for_colours(patient):
    Image.fromarray(slice_of(2)).convert("CMYK").save(patient / f"{NAME}_2.tif")
    expected = r"4 channels \(mode CMYK\); expected three channels of 8 bits \(RGB\), one page"
    with pytest.raises(ValueError, match=expected):
        lgg.read_image(patient)


def sixteen_bit_rgb():
    """A TIFF of 2 x 2 pixels with 16 bits in each of three channels, which Pillow does not write."""
    fields = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 122), (259, 3, 1, 1), (262, 3, 1, 2)]
    fields += [(273, 4, 1, 128), (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, 24)]
    entries = b"".join(
        np.array([tag, kind], "<u2").tobytes() + np.array([n, value], "<u4").tobytes() for tag, kind, n, value in fields
    )
    head = b"II*\0" + np.array([8], "<u4").tobytes() + np.array([len(fields)], "<u2").tobytes() + entries + bytes(4)
    assert len(head) == 122
    return head + np.array([16, 16, 16], "<u2").tobytes() + np.arange(12, dtype="<u2").tobytes()


def test_a_colour_slice_of_16_bits_is_refused_and_not_cut_to_8(patient):
    (patient / f"{NAME}_2.tif").write_bytes(sixteen_bit_rgb())
    with Image.open(patient / f"{NAME}_2.tif") as image:
        assert (image.mode, image.size) == ("RGB", (2, 2))  # all that Pillow says of it
    with pytest.raises(ValueError, match=rf"{NAME}_2\.tif: 16 bits a channel; expected 8"):
        lgg.read_image(patient)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, of tags that are cut off too
@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate"])
def test_a_truncated_slice_is_refused_by_name(patient, compression):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    for number in (1, 2, 3):
        path = save(patient / f"{NAME}_{number}.tif", pixels, compression=compression)
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(ValueError, match=rf"{NAME}_3\.tif: cannot be read as an image"):
        lgg.read_image(patient)


def test_a_file_that_is_no_image_is_refused_by_name(patient):
    (patient / f"{NAME}_1_mask.tif").write_bytes(b"no image")
    with pytest.raises(ValueError, match=rf"{NAME}_1_mask\.tif: cannot be read as an image"):
        lgg.read_mask((patient,))


def test_files_of_several_pages_are_refused_by_name(patient):
    more = Image.fromarray(slice_of(3))
    Image.fromarray(slice_of(2)).save(patient / f"{NAME}_2.tif", save_all=True, append_images=[more])
    with pytest.raises(ValueError, match=rf"{NAME}_2\.tif: 2 pages; expected three channels of 8 bits"):
        lgg.read_image(patient)
    mask = Image.fromarray(lesion())
    mask.save(patient / f"{NAME}_3_mask.tif", save_all=True, append_images=[mask])
    with pytest.raises(ValueError, match=rf"{NAME}_3_mask\.tif: 2 pages; expected one page"):
        lgg.read_mask((patient,))


def test_a_broken_second_page_is_refused_by_name(patient):
    path = patient / f"{NAME}_2.tif"
    Image.fromarray(slice_of(2)).save(path)
    content = bytearray(path.read_bytes())
    start = int.from_bytes(content[4:8], "little")
    following = start + 2 + 12 * int.from_bytes(content[start : start + 2], "little")
    content[following : following + 4] = len(content).to_bytes(4, "little")  # the next page begins at the end ...
    path.write_bytes(bytes(content) + b"\0\0\0\0\0\0")  # ... and has no fields
    with pytest.raises(ValueError, match=rf"{NAME}_2\.tif: cannot be read as an image: Missing dimensions"):
        lgg.read_image(patient)


def test_a_mask_of_more_values_is_refused_by_name(patient):
    grey = lesion((1, 2))
    grey[3, 3] = 7
    save(patient / f"{NAME}_2_mask.tif", grey)
    with pytest.raises(ValueError, match=rf"{NAME}_2_mask\.tif: values \[0, 7, 255\]"):
        lgg.read_mask((patient,))


def test_a_mask_of_another_size_is_refused_by_name(patient):
    save(patient / f"{NAME}_3_mask.tif", lesion()[:, :4])
    with pytest.raises(ValueError, match=rf"{NAME}_3_mask\.tif: \(rows, columns\) \(4, 4\); expected \(4, 5\)"):
        lgg.read_mask((patient,))


# What pixels tell


def volume(slices=4, shape=(6, 7)):
    """A patient without any oddity: noise of its own in each sequence, a bright lesion in a middle slice."""
    image = np.random.default_rng(1).integers(40, 90, (slices, *shape, 3)).astype(np.uint8)
    mask = np.zeros((slices, *shape), np.uint8)
    mask[1, 2:4, 2:4] = 1
    image[mask > 0] += 100
    return image, mask


def inspected(image, mask):
    case = cases.Case(NAME, "TCGA_CS_4941", None, (None,), None)
    findings = lgg.inspect(case, image, mask)
    assert all(finding.case == NAME and finding.expected for finding in findings)
    return {(finding.severity, finding.check.name): finding.found for finding in findings}


def test_a_patient_without_oddity_has_no_finding():
    assert inspected(*volume()) == {}


def test_a_patient_without_lesion_is_a_note():
    image, mask = volume()
    assert inspected(image, mask * 0) == {("note", "no lesion"): "none in 4 slices"}


@pytest.mark.parametrize(
    ("channels", "said"), [([0], "pre-contrast"), ([2], "post-contrast"), ([0, 2], "pre-contrast and post-contrast")]
)
def test_a_sequence_that_is_flair_in_every_slice_is_a_note(channels, said):
    image, mask = volume()
    for channel in channels:
        image[..., channel] = image[..., 1]
    assert inspected(image, mask) == {("note", "sequence replaced by FLAIR"): said}


def test_a_sequence_that_differs_from_flair_in_one_voxel_is_its_own():
    image, mask = volume()
    image[..., 2] = image[..., 1]
    image[3, 5, 6, 2] ^= 1
    assert inspected(image, mask) == {}


def test_constant_channels_are_named_with_their_slices_counted_from_1():
    image, mask = volume(slices=8)
    image[[0, 2, 3, 4], ..., 1] = 0
    image[7, ..., 2] = 61
    said = "FLAIR in slices 1, 3-5; post-contrast in slices 8"
    assert inspected(image, mask) == {("note", "constant channel"): said}


def test_lesion_in_an_end_slice_is_counted_and_warned_of():
    image, mask = volume()
    mask[0, 3, 3] = mask[3, 2, 2] = mask[3, 2, 3] = 1
    said = "slice 1: 1 of 7 lesion voxels; slice 4: 2 of 7 lesion voxels"
    assert inspected(image, mask) == {("warn", "lesion in an end slice"): said}


@pytest.mark.parametrize("place", [(0, 3), (5, 3), (3, 0), (3, 6)])
def test_a_lesion_at_each_side_of_the_frame_is_a_note(place):
    image, mask = volume()
    mask[(2, *place)] = 1
    assert inspected(image, mask) == {("note", "lesion touches the frame"): "slices 3"}


def test_a_lesion_no_brighter_than_other_tissue_is_a_note_and_air_is_no_tissue():
    image, mask = volume()
    image[..., 1] = np.where(np.arange(7) < 5, 60, 25)
    image[mask > 0, 1] = 60
    image[3, 0, 0, 1] = 61
    ((check, said),) = inspected(image, mask).items()
    assert check == ("note", "dark lesion")
    assert said == "mean FLAIR 60.0 in the lesion, 60.0 in other tissue"
    image[mask > 0, 1] = 61
    assert inspected(image, mask) == {}


def test_a_lesion_without_other_tissue_is_not_dark():
    image, mask = volume()
    image[mask == 0, 1] = np.arange(np.count_nonzero(mask == 0)) % 25
    assert inspected(image, mask) == {}


# Pixel sizes


def write_spacing(root, *lines, heading="patient,row_mm,col_mm,slice_mm"):
    (root / "spacing.csv").write_text("\n".join([heading, *lines]) + "\n", encoding="utf-8")


def test_pixel_sizes_come_from_a_table_beside_the_patients(root):
    write_patient(root, "TCGA_CS_4942_19970222")
    write_spacing(root, "TCGA_CS_4942_19970222, 0.9, 1.0 ,5", "", f"{NAME},0.5,0.75,6.5")
    one_case, other = lgg.find_cases(root, ())[0]
    assert (one_case.spacing_mm, one_case.slice_mm) == ((0.5, 0.75), 6.5)
    assert (other.spacing_mm, other.slice_mm) == ((0.9, 1.0), 5.0)
    assert lgg.find_cases(root, ())[1] == []


@pytest.mark.parametrize(
    ("numbers", "column", "text", "expected"),
    [
        ("1,,5", "col_mm", "", "mm, 0.1 to 5"),
        ("1,1,0", "slice_mm", "0", "mm, 0.1 to 20"),
        ("1,-1,5", "col_mm", "-1", "mm, 0.1 to 5"),
        ('"0,9",1,5', "row_mm", "0,9", "mm, 0.1 to 5 (a decimal point?)"),
    ],
)
def test_a_number_out_of_range_stops_and_leaves_the_patient_without_millimetres(root, numbers, column, text, expected):
    write_spacing(root, "", f"{NAME},{numbers}")
    found = one(root, "unreadable number")
    assert (found.severity, found.case, found.expected) == ("stop", NAME, expected)
    assert found.found == f'spacing.csv, row 3, column "{column}": "{text}"'
    assert (only_case(root).spacing_mm, only_case(root).slice_mm) == (None, None)


def test_a_patient_without_a_row_is_warned_of(root):
    write_patient(root, "TCGA_CS_4942_19970222")
    write_spacing(root, f"{NAME},1,1,5")
    assert checks(root) == [("warn", "missing pixel size", "TCGA_CS_4942_19970222")]
    assert [case.slice_mm for case in lgg.find_cases(root, ())[0]] == [5.0, None]


def test_a_row_of_an_unknown_patient_is_warned_of_with_the_nearest(root):
    write_spacing(root, f"{NAME},1,1,5", "TCGA_CS_4941,1,1,5")
    found = one(root, "row without a patient")
    assert (found.severity, found.case, found.found) == ("warn", "TCGA_CS_4941", "spacing.csv, row 3")
    assert found.expected == f"a patient's folder (nearest: {NAME})"


def test_two_rows_for_one_patient_stop(root):
    write_spacing(root, f"{NAME},1,1,5", f"{NAME},1,1,6")
    found = one(root, "two rows for one patient")
    assert (found.severity, found.case, found.found) == ("stop", NAME, "spacing.csv, row 2 and row 3")


def test_a_table_of_other_columns_is_refused(root):
    write_spacing(root, f"{NAME},1,1", heading="patient,row_mm,col_mm")
    with pytest.raises(ValueError, match=r"spacing\.csv: columns \['slice_mm'\] are missing"):
        lgg.find_cases(root, ())


def test_runs_of_numbers_are_shortened():
    assert lgg.runs([]) == ""
    assert lgg.runs({9, 3, 1, 2, 5, 6}) == "1-3, 5-6, 9"
