import struct
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from lib.data import cases
from lib.datasets import lgg
from lib.imaging import image_files

NAME, OTHER = "TCGA_CS_4941_19960909", "TCGA_CS_4942_19970222"
SHAPE = (4, 5)
FEW = "at least 3 slices, since the end slices may be dropped"
NO_MASK, NO_SLICE = ("slices 2", f"{NAME}_2_mask.tif"), ("masks 3", f"{NAME}_3.tif")
ROW = f"{NAME},1,1,5"


def slice_of(number):
    """An image whose grey values identify slice and channel."""
    return np.stack([np.arange(20, dtype=np.uint8).reshape(SHAPE) + 20 * c + 60 * (number % 4) for c in range(3)], -1)


def lesion(*pixels):
    mask = np.zeros(SHAPE, np.uint8)
    for pixel in pixels:
        mask[pixel] = 255
    return mask


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_patient(root, name=NAME, numbers=(1, 2, 3), marked=2):
    """Slices with masks, one of them with two lesion pixels."""
    for number in numbers:
        save(root / name / f"{name}_{number}.tif", slice_of(number))
        mask = lesion((1, 2), (2, 2)) if number == marked else lesion()
        save(root / name / f"{name}_{number}_mask.tif", mask)
    return root / name


@pytest.fixture
def root(tmp_path):
    return write_patient(tmp_path / "kaggle_3m").parent


@pytest.fixture
def patient(root):
    return root / NAME


def find(folder):
    return lgg.find_cases(folder, ())


def findings(folder):
    """(severity, check, case, found, expected) of all findings except "no pixel size"."""
    found = [f for f in find(folder)[1] if f.check.name != "no pixel size"]
    return [(f.severity, f.check.name, f.case, f.found, f.expected) for f in found]


def test_a_patient_is_a_case_with_subject_and_institution_from_the_folder_s_name(root):
    for name in ("data.csv", "README.md", ".DS_Store"):
        (root / name).touch()
    (root / ".cache").mkdir()
    (case,), (note,) = find(root)
    assert (case.name, case.subject, case.stratum) == (NAME, "TCGA_CS_4941", "CS")
    assert (case.image, case.mask) == (root / NAME, (root / NAME,))
    assert (case.spacing_mm, case.slice_mm, case.split, case.foreground) == (None, None, "", "either")
    assert (note.severity, note.check.name) == ("note", "no pixel size")
    assert find(root.parent)[0] == [case]
    write_patient(root, "TCGA_CS_4941_19970102")  # another scan of the same patient
    scans = {case.name: case.subject for case in find(root)[0]}
    assert scans == dict.fromkeys((NAME, "TCGA_CS_4941_19970102"), "TCGA_CS_4941")
    assert find(root.rename(root.with_name("Kaggle_3M")).parent)[0][0].name == NAME


def test_slices_are_sorted_by_number_and_not_by_name(tmp_path):
    folder = write_patient(tmp_path, numbers=range(1, 13), marked=10)
    image, mask = lgg.read_image(folder), lgg.read_mask((folder,))
    assert (image.shape, mask.shape) == ((12, 4, 5, 3), (12, 4, 5))
    assert image[:, 0, 0, 0].tolist() == [60 * (number % 4) for number in range(1, 13)]
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [9]


def test_an_image_is_read_as_written_with_flair_in_the_middle(patient):
    save(patient / f"{NAME}_2.tif", slice_of(2), compression="tiff_adobe_deflate")
    (patient / f"{NAME}_3.tif").rename(patient / f"{NAME}_3.TIF")
    image = lgg.read_image(patient)
    assert image.dtype == np.uint8
    assert all(np.array_equal(image[index], slice_of(index + 1)) for index in range(3))
    assert image[1, 0, 0].tolist() == [120, 140, 160]
    assert lgg.CHANNELS[lgg.FLAIR] == "FLAIR"
    assert findings(patient.parent) == []


@pytest.mark.parametrize("high", [255, 1])
def test_a_mask_is_0_and_1_for_files_of_0_and_255_or_0_and_1(patient, high):
    save(patient / f"{NAME}_2_mask.tif", np.where(lesion((1, 2), (2, 2)) > 0, high, 0).astype(np.uint8))
    read = Mock(side_effect=image_files.open_mask)
    mask = lgg.read_mask((patient,), read=read)
    expected = np.zeros((3, *SHAPE), np.uint8)
    expected[1, 1:3, 2] = 1
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, expected)
    assert [call.args[0].name for call in read.call_args_list] == [f"{NAME}_{number}_mask.tif" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("numbers", "removed", "added", "faults"),
    [
        (range(1, 8), ["4", "4_mask"], [], {"missing slice number": ("slices 1-3, 5-7", "1 to 7 without a gap")}),
        ((0, 1, 2), [], [], {"missing slice number": ("slices 0-2", "1 to 2 without a gap")}),
        ((1, 2, 3), ["2_mask"], [], {"slice without mask": NO_MASK}),
        ((1, 2, 3), ["3"], [], {"mask without slice": NO_SLICE}),
        ((1, 2, 3), [], ["02"], {"two files for one slice": (f"{NAME}_02.tif and {NAME}_2.tif", "one file")}),
        ((1, 2), [], [], {"too few slices": ("2 slices", FEW)}),
        ((), [], [], {"too few slices": ("0 slices", FEW)}),
        ((1, 2, 3), ["3", "2_mask"], [], {"slice without mask": NO_MASK, "mask without slice": NO_SLICE}),
    ],
)
def test_an_incomplete_patient_stops_with_all_faults_and_others_are_read(tmp_path, numbers, removed, added, faults):
    (tmp_path / NAME).mkdir()
    write_patient(tmp_path, numbers=numbers)
    write_patient(tmp_path, "TCGA_HT_7602_19951103")
    for end in removed:
        (tmp_path / NAME / f"{NAME}_{end}.tif").unlink()
    for end in added:
        save(tmp_path / NAME / f"{NAME}_{end}.tif", slice_of(2))
    assert [case.stratum for case in find(tmp_path)[0]] == ["HT"]
    assert findings(tmp_path) == [("stop", check, NAME, *words) for check, words in faults.items()]
    for check, (found, _) in faults.items():
        for read, path in ((lgg.read_image, tmp_path / NAME), (lgg.read_mask, (tmp_path / NAME,))):
            with pytest.raises(ValueError, match=f"{NAME}: .*{check}: found {found}"):
                read(path)


@pytest.mark.parametrize(
    "name", ["notes.txt", f"{NAME}.tif", f"{NAME}_2.png", f"{NAME}_a.tif", "TCGA_CS_4942_19960909_1.tif"]
)
def test_an_unknown_file_is_ignored_with_a_warning(root, patient, name):
    (patient / name).touch()
    (patient / "._hidden").touch()
    assert [found[:4] for found in findings(root)] == [("warn", "unknown file", NAME, f"{name}: ignored")]
    assert lgg.read_image(patient).shape == (3, 4, 5, 3)
    assert [case.name for case in find(root)[0]] == [NAME]


def test_a_folder_of_another_name_is_ignored_with_a_warning_and_of_another_layout_refused(root, tmp_path):
    names = ("Patient 1", "TCGA_CS_4941", "TCGA_CS_4941_1996", NAME.lower())
    for name in names:
        (root / name).mkdir()
    assert [found[:3] for found in findings(root)] == [("warn", "unknown folder", name) for name in names]
    (tmp_path / "new" / "training_set").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"found \['training_set'\]; expected kaggle_3m/ with folders such as TCGA"):
        find(tmp_path / "new")
    with pytest.raises(ValueError, match="none: found no such folder; expected kaggle_3m/"):
        find(tmp_path / "none")
    with pytest.raises(ValueError, match=f"{NAME}: no such folder"):
        lgg.read_mask((tmp_path / NAME,))


def sixteen_bit_rgb():
    """A TIFF of 2 x 2 pixels with 16 bits in each of three channels, which Pillow does not write."""
    fields = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 122), (259, 3, 1, 1), (262, 3, 1, 2)]
    fields += [(273, 4, 1, 128), (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, 24)]
    entries = b"".join(struct.pack("<HHII", *field) for field in fields)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(fields)) + entries + bytes(4)  # 122 bytes
    return head + struct.pack("<15H", 16, 16, 16, *range(12))


def with_broken_second_page(path):
    """A valid TIFF followed by a page without fields."""
    content = bytearray(save(path, slice_of(2)).read_bytes())
    start = int.from_bytes(content[4:8], "little")
    following = start + 2 + 12 * int.from_bytes(content[start : start + 2], "little")
    content[following : following + 4] = len(content).to_bytes(4, "little")
    return bytes(content) + b"\0\0\0\0\0\0"


def written(pixels, mode=None, pages=1):
    """A function that writes these pixels to a path."""
    image = Image.fromarray(pixels).convert(mode) if mode else Image.fromarray(pixels)
    return lambda path: image.save(path, save_all=pages > 1, append_images=[image] * (pages - 1))


GREY = slice_of(2)[..., 0]
SEVEN = lesion((1, 2)) + 7 * (lesion((3, 3)) > 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("end", "write", "message"),
    [
        ("", written(slice_of(2), "RGBA"), r"mode RGBA; expected three channels of 8 bits"),
        ("", written(slice_of(2), "CMYK"), "mode CMYK; expected three channels"),
        ("", written(GREY), "mode L; expected"),
        ("", written(GREY.astype(np.uint16) * 257), ".*: 16 bits per channel"),
        ("", lambda path: path.write_bytes(sixteen_bit_rgb()), ".*: 16 bits per channel; expected 8"),
        ("", written(GREY.astype(np.float32)), ".*: mode F; expected 8 bits"),
        ("", written(slice_of(2)[:3]), r"\(rows, columns\) \(3, 5\); expected \(4, 5\) as in the first slice"),
        ("", written(slice_of(2), pages=2), ".*: 2 pages or frames; expected one"),
        ("", lambda path: path.write_bytes(with_broken_second_page(path)), "cannot be read as an image: Missing dim"),
        ("_mask", lambda path: path.write_bytes(b"no image"), "cannot be read as an image"),
        ("_mask", written(lesion(), pages=2), ".*: 2 pages or frames; expected one"),
        ("_mask", written(SEVEN), r"values \[0, 7, 255\]"),
        ("_mask", written(lesion()[:, :4]), r"\(rows, columns\) \(4, 4\); expected \(4, 5\)"),
    ],
)
def test_a_slice_or_mask_of_another_format_is_refused(patient, end, write, message):
    write(patient / f"{NAME}_2{end}.tif")
    with pytest.raises(ValueError, match=rf"{NAME}_2{end}\.tif: {message}"):
        lgg.read_mask((patient,)) if end else lgg.read_image(patient)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # from Pillow, for truncated tags
@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate"])
def test_a_truncated_slice_is_refused(patient, compression):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    for number in (1, 2, 3):
        path = save(patient / f"{NAME}_{number}.tif", pixels, compression=compression)
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(ValueError, match=rf"{NAME}_3\.tif: cannot be read as an image"):
        lgg.read_image(patient)


def volume(slices=4, shape=(6, 7)):
    """A patient without findings: independent noise in each sequence, a bright lesion in an inner slice."""
    image = np.random.default_rng(1).integers(40, 90, (slices, *shape, 3)).astype(np.uint8)
    mask = np.zeros((slices, *shape), np.uint8)
    mask[1, 2:4, 2:4] = 1
    image[mask > 0] += 100
    return image, mask


def inspected(image, mask):
    findings = lgg.inspect(cases.Case(NAME, "TCGA_CS_4941", None, (None,), None), image, mask)
    assert all(finding.case == NAME and finding.expected for finding in findings)
    return {(finding.severity, finding.check.name): finding.found for finding in findings}


def test_each_pixel_check_gives_its_finding_only_with_slices_counted_from_1():
    image, mask = volume()
    assert inspected(image, mask) == {}
    assert inspected(image, mask * 0) == {("note", "no lesion"): "none in 4 slices"}
    image, mask = volume(slices=8)
    image[[0, 2, 3, 4], ..., 1] = 0
    image[7, ..., 2] = 61
    found = "FLAIR in slices 1, 3-5; post-contrast in slices 8"
    assert inspected(image, mask) == {("note", "constant channel"): found}
    image, mask = volume()
    mask[0, 3, 3] = mask[3, 2, 2] = mask[3, 2, 3] = 1
    found = "slice 1: 1 of 7 lesion voxels; slice 4: 2 of 7 lesion voxels"
    assert inspected(image, mask) == {("warn", "lesion in an end slice"): found}
    for pixel in ((0, 3), (5, 3), (3, 0), (3, 6)):  # each side
        image, mask = volume()
        mask[(2, *pixel)] = 1
        assert inspected(image, mask) == {("note", "lesion touches the frame"): "slices 3"}
    words = {(0,): "pre-contrast", (2,): "post-contrast", (0, 2): "pre-contrast and post-contrast"}
    for channels, found in words.items():
        image, mask = volume()
        image[..., channels] = image[..., [1]]
        assert inspected(image, mask) == {("note", "sequence replaced by FLAIR"): found}
        image[3, 5, 6, channels] ^= 1
        assert inspected(image, mask) == {}
    image, mask = volume()  # a lesion no brighter than other tissue is a note, and air is not tissue
    image[..., 1] = np.where(np.arange(7) < 5, 60, 25)
    image[mask > 0, 1] = 60
    image[3, 0, 0, 1] = 61
    found = "mean FLAIR 60.0 in the lesion, 60.0 in other tissue"
    assert inspected(image, mask) == {("note", "dark lesion"): found}
    image[mask > 0, 1] = 61
    assert inspected(image, mask) == {}
    image[mask == 0, 1] = np.arange(np.count_nonzero(mask == 0)) % 25  # no other tissue
    assert inspected(image, mask) == {}


def write_spacing(root, *lines, heading="patient,row_mm,col_mm,slice_mm"):
    (root / "spacing.csv").write_text("\n".join([heading, *lines]) + "\n", encoding="utf-8")


def test_pixel_sizes_are_read_from_a_table_next_to_the_patients(root):
    write_patient(root, OTHER)
    write_spacing(root, f"{OTHER}, 0.9, 1.0 ,5", "", f"{NAME},0.5,0.75,6.5")
    found, findings = find(root)
    assert [(case.spacing_mm, case.slice_mm) for case in found] == [((0.5, 0.75), 6.5), ((0.9, 1.0), 5.0)]
    assert findings == []
    write_spacing(root, f"{NAME},1,1", heading="patient,row_mm,col_mm")
    with pytest.raises(ValueError, match=r"spacing\.csv: columns \['slice_mm'\] are missing"):
        find(root)


@pytest.mark.parametrize(
    ("lines", "finding", "slice_mm"),
    [
        (["", f"{NAME},1,,5"], ("stop", "unreadable number", NAME, 'row 3, column "col_mm": ""', "0.1 to 5"), None),
        ([f"{NAME},1,1,0"], ("stop", "unreadable number", NAME, 'row 2, column "slice_mm": "0"', "0.1 to 20"), None),
        ([f"{NAME},1,-1,5"], ("stop", "unreadable number", NAME, 'column "col_mm": "-1"', "0.1 to 5"), None),
        ([f'{NAME},"0,9",1,5'], ("note", "decimal comma", "spacing.csv", 'column "row_mm": "0,9"', "point"), 5.0),
        ([f"{NAME},0.9 mm,1,5"], ("stop", "unreadable number", NAME, '"0.9 mm"', "5 (without a unit)"), None),
        ([f"{OTHER},1,1,5"], ("warn", "missing pixel size", NAME, "no row in spacing.csv", "a row"), None),
        ([ROW, "TCGA_CS_4941,1,1,5"], ("warn", "row without a patient", "TCGA_CS_4941", "row 3", f": {NAME})"), 5.0),
        ([ROW, f"{NAME},1,1,6"], ("stop", "two rows for one patient", NAME, "row 2 and row 3", "one row"), 5.0),
    ],
)
def test_a_faulty_row_is_a_finding_and_its_numbers_are_not_used(root, lines, finding, slice_mm):
    write_spacing(root, *lines)
    found = findings(root)[-1]
    assert found[:3] == finding[:3]
    assert finding[3] in found[3]
    assert finding[4] in found[4]
    assert [case.slice_mm for case in find(root)[0]] == [slice_mm]


def test_numbers_are_written_as_ranges():
    assert lgg.format_ranges([]) == ""
    assert lgg.format_ranges({9, 3, 1, 2, 5, 6}) == "1-3, 5-6, 9"
