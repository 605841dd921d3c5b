from collections import Counter

import numpy as np
import pytest
from PIL import Image

from lib.datasets import lgg
from lib.study import files

FOLDER = files.ROOT.parent / "shared" / "data" / "lgg"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is missing: LGG is not part of the project")


@pytest.fixture(scope="module")
def found():
    return lgg.find_cases(FOLDER, ())


@pytest.fixture(scope="module")
def inspected(found):
    """By patient: image shape, lesion voxels per slice, findings."""
    results = {}
    for case in found[0]:
        image, mask = lgg.read_image(case.image), lgg.read_mask(case.mask)
        assert mask.shape == image.shape[:3]
        results[case.name] = image.shape, np.count_nonzero(mask, axis=(1, 2)), lgg.inspect(case, image, mask)
    return results


def found_by(inspected, check):
    """{patient: `found`} of one check; the patient by institution and number."""
    rows = [(name, finding) for name, (_, _, findings) in inspected.items() for finding in findings]
    return {name[5:12]: finding.found for name, finding in rows if finding.check.name == check}


def test_28_complete_patients_of_five_institutions_are_found(found):
    cases, findings = found
    assert Counter(case.stratum for case in cases) == {"CS": 8, "DU": 3, "EZ": 1, "FG": 2, "HT": 14}
    assert len({case.subject for case in cases}) == 28
    assert [finding.check.name for finding in findings] == ["no pixel size"]
    assert {(case.spacing_mm, case.slice_mm, case.foreground) for case in cases} == {(None, None, "either")}
    assert lgg.find_cases(FOLDER / "kaggle_3m", ()) == found


def test_there_are_679_slices_and_235_with_lesion_consecutive_in_each_patient(inspected):
    slices, lesions = Counter(), Counter()
    for name, (shape, counts, _) in inspected.items():
        assert shape[1:] == (256, 256, 3)
        slices[name[5:7]] += shape[0]
        lesions[name[5:7]] += np.count_nonzero(counts)
        present = np.flatnonzero(counts)
        assert len(present) == present[-1] - present[0] + 1, name
    assert slices == {"CS": 165, "DU": 90, "EZ": 24, "FG": 100, "HT": 300}  # 679
    assert lesions == {"CS": 53, "DU": 27, "EZ": 6, "FG": 35, "HT": 114}  # 235


def test_pixel_findings_are_those_known(inspected):
    assert found_by(inspected, "sequence replaced by FLAIR") == {
        "DU_8165": "post-contrast",
        "FG_7634": "post-contrast",
        "FG_A60K": "pre-contrast and post-contrast",
        "HT_A616": "pre-contrast and post-contrast",
    }
    constant = found_by(inspected, "constant channel")
    assert constant["DU_A5TW"] == "post-contrast in slices 1-9"
    assert constant["CS_4943"] == "FLAIR in slices 20; post-contrast in slices 1"
    assert constant["DU_A5TU"] == "FLAIR in slices 1, 23"
    assert len(constant) == 10
    assert found_by(inspected, "lesion in an end slice") == {
        "FG_7634": "slice 27: 1381 of 24777 lesion voxels",
        "HT_7692": "slice 20: 240 of 3115 lesion voxels",
    }
    severe = Counter(f.check.name for _, _, findings in inspected.values() for f in findings if f.severity != "note")
    assert severe == {"lesion in an end slice": 2}
    for check in ("no lesion", "lesion touches the frame", "dark lesion"):
        assert found_by(inspected, check) == {}


def test_slices_of_the_longest_patient_are_sorted_by_number():
    name = "TCGA_FG_A60K_20040224"
    folder = FOLDER / "kaggle_3m" / name
    image = lgg.read_image(folder)
    assert len(image) == 73
    for number in (1, 2, 9, 10, 11, 73):
        with Image.open(folder / f"{name}_{number}.tif") as slice_:
            assert np.array_equal(image[number - 1], np.asarray(slice_)), number
