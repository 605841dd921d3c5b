from dataclasses import replace

import numpy as np
import pytest

from lib.data import arrays, earlier
from lib.imaging import geometry
from lib.study import array_files, files
from tests import builders, builders_tasks

FIT = [geometry.fit((540, 800), (32, 32)), geometry.fit((541, 738), (32, 32), (3, 5, 500, 611))]
FIT.append(geometry.fit((97, 61), (32, 32)))
SIGMAS = np.array([1.5, 2.0, np.float32(1 / 3)], np.float32)


def test_rows_follow_the_order_of_the_given_names_and_slices_that_of_their_volume():
    assert builders.discs(5).rows(["disc3", "disc0", "disc3"]).tolist() == [3, 0, 3]
    assert builders.discs(5).rows([]).dtype == np.int64
    volumes = builders_tasks.volumes(count=3, slices=4)
    assert volumes.rows(["patient2", "patient0"]).tolist() == [8, 9, 10, 11, 0, 1, 2, 3]
    assert replace(volumes, names=["a", "b", "b", "b", "b", "c"]).rows(["c", "b"]).tolist() == [5, 1, 2, 3, 4]


def test_a_case_has_the_geometry_of_its_first_row_and_an_unknown_one_is_named():
    mappings = [geometry.fit((shape, 40), (32, 32)) for shape in (40, 50, 60)]
    made = replace(builders.discs(3), geometries=mappings)
    assert [made.geometry_of(f"disc{n}") for n in (2, 0)] == [mappings[2], mappings[0]]
    for look_up in (lambda name: made.rows(["disc1", name]), made.geometry_of):
        with pytest.raises(ValueError, match=r"1 cases are not in the arrays \(\['disc9'\] …\); rerun 02_preproc"):
            look_up("disc9")


@pytest.mark.parametrize(
    "made",
    [
        replace(builders.discs(3), names=["007_HC", "008", "9"], geometries=FIT),
        replace(builders_tasks.landmarked(3), sigmas=SIGMAS),
        builders_tasks.volumes(count=2, slices=4),
    ],
    ids=["regions", "landmarks", "volumes"],
)
def test_arrays_are_read_from_disk_exactly_as_written_and_are_read_only(processed, made):
    builders_tasks.write_arrays(processed / "abc", made)
    opened = arrays.open_arrays("abc")
    assert (opened.names, opened.geometries, opened.fingerprint) == (made.names, made.geometries, "abc")
    for name in ("images", "masks", "slices", "points", "sigmas"):
        before, after = getattr(made, name), getattr(opened, name)
        assert (before is None) == (after is None), name
        if before is not None:
            np.testing.assert_array_equal(after, before, strict=True)
    assert isinstance(opened.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        opened.images[0] = 0


def test_the_content_of_arrays_is_that_of_their_bytes_and_preprocessing_whatever_they_are_called(processed):
    made = builders.discs(2)
    turned = replace(made, images=made.images[:, :, ::-1])
    of_volumes = replace(made, preparation=made.preparation | {"volumes": True})
    for name, each in {"abc": made, "def": made, "turned": turned, "volumes": of_volumes}.items():
        builders_tasks.write_arrays(processed / name, each)
    contents = {name: arrays.open_arrays(name).content for name in ("abc", "def", "turned")}
    assert contents["abc"] == contents["def"] != contents["turned"]
    described = array_files.content(files.read_json(processed / "volumes" / "dataset.json"))
    assert described not in contents.values()


def test_the_arrays_of_a_study_are_found_by_its_fingerprint(processed):
    builders_tasks.write_arrays(processed / "abc", builders.discs(2))
    files.write_json(processed / "02_preprocessing" / "dataset.json", {"fingerprint": "abc"})
    assert earlier.read_arrays(lambda step: processed / step).names == ["disc0", "disc1"]
