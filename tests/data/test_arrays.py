from dataclasses import replace

import numpy as np
import pytest

from lib.data import arrays, earlier
from lib.imaging import geometry
from lib.study import files
from tests import builders, builders_tasks


def test_rows_follow_the_order_of_the_names_asked_for():
    assert builders.discs(5).rows(["disc3", "disc0", "disc3"]).tolist() == [3, 0, 3]


def test_no_names_are_no_rows():
    assert builders.discs(5).rows([]).dtype == np.int64


def test_a_case_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"1 cases are not in the arrays \(\['disc9'\] …\); run 02_preprocessing"):
        builders.discs(5).rows(["disc1", "disc9"])


def test_rows_of_a_volume_are_its_slices_in_order():
    made = builders_tasks.volumes(count=3, slices=4)
    assert made.rows(["patient2", "patient0"]).tolist() == [8, 9, 10, 11, 0, 1, 2, 3]


def test_volumes_of_different_depth_have_as_many_rows_as_slices():
    made = replace(builders_tasks.volumes(count=2, slices=3), names=["a", "b", "b", "b", "b", "c"])
    assert made.rows(["c", "b"]).tolist() == [5, 1, 2, 3, 4]


def test_a_case_has_the_geometry_of_its_first_row():
    mappings = [geometry.fit((shape, 40), (32, 32)) for shape in (40, 50, 60)]
    made = replace(builders.discs(3), geometries=mappings)
    assert [made.geometry_of(f"disc{n}") for n in (2, 0)] == [mappings[2], mappings[0]]


def test_the_geometry_of_a_case_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="disc9"):
        builders.discs(2).geometry_of("disc9")


def test_arrays_come_back_from_disk_to_the_last_digit(processed):
    made = builders.discs(3)
    mappings = [geometry.fit((540, 800), (32, 32)), geometry.fit((541, 738), (32, 32), (3, 5, 500, 611))]
    mappings.append(geometry.fit((97, 61), (32, 32)))
    builders_tasks.write_arrays(processed / "abc", replace(made, names=["007_HC", "008", "9"], geometries=mappings))
    opened = arrays.open_arrays("abc")
    assert opened.names == ["007_HC", "008", "9"]
    assert opened.geometries == mappings
    assert np.array_equal(opened.images, made.images)
    assert np.array_equal(opened.masks, made.masks)
    assert opened.slices.tolist() == [0, 0, 0]
    assert (opened.points, opened.sigmas) == (None, None)
    assert opened.fingerprint == "abc"


def test_landmarks_come_back_with_the_width_of_each_case_s_heatmap(processed):
    made = replace(builders_tasks.landmarked(3), sigmas=np.array([1.5, 2.0, np.float32(1 / 3)], np.float32))
    builders_tasks.write_arrays(processed / "abc", made)
    opened = arrays.open_arrays("abc")
    assert np.array_equal(opened.points, made.points)
    assert np.array_equal(opened.sigmas, made.sigmas)
    assert opened.sigmas.dtype == np.float32


def test_volumes_come_back_as_float32_with_their_slice_numbers(processed):
    made = builders_tasks.volumes(count=2, slices=4)
    builders_tasks.write_arrays(processed / "abc", made)
    opened = arrays.open_arrays("abc")
    assert opened.images.dtype == np.float32
    assert np.array_equal(opened.images, made.images)
    assert opened.slices.tolist() == [1, 2, 3, 4, 1, 2, 3, 4]


def test_arrays_on_disk_are_mapped_and_cannot_be_written(processed):
    builders_tasks.write_arrays(processed / "abc", builders.discs(2))
    opened = arrays.open_arrays("abc")
    assert isinstance(opened.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        opened.images[0] = 0


def test_a_study_s_arrays_are_found_by_the_fingerprint_it_names(processed):
    builders_tasks.write_arrays(processed / "abc", builders.discs(2))
    files.write_json(processed / "02_preprocessing" / "dataset.json", {"fingerprint": "abc"})
    assert earlier.read_arrays(lambda step: processed / step).names == ["disc0", "disc1"]
