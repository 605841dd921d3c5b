import numpy as np
import pytest

from lib.datasets import landmark_tables
from lib.datasets.phantoms import heads, write_images
from lib.imaging import head_points
from lib.study import files
from tests.datasets.phantoms.builders import SEED, contents

COLUMNS = (
    "image_name,scale,center_w,center_h,ofd_1_x,ofd_1_y,ofd_2_x,ofd_2_y,bpd_1_x,bpd_1_y,bpd_2_x,bpd_2_y,"
    "SubjectID,px_to_mm_rate,Algo,Split"
)


@pytest.fixture(scope="module")
def table(written):
    table, findings = landmark_tables.read(written / "landmarks/landmarks", "multicentre")
    assert findings == []
    return table


def exact_endpoints(name):
    """Endpoints of the axes of the head in a phantom image, in pixels, computed from its parameters."""
    subject, frame = int(name[:3]) + 1, int(name[4:-2] or 1)
    frame = heads.draw_frame(SEED, write_images.HC18_HEADS + subject, frame, write_images.DRAWN)
    angle, centre = np.deg2rad(frame.head.angle_deg), np.array(frame.head.centre_mm)
    along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    ofd, bpd = np.array(frame.head.axes_mm) / 2
    ends = np.stack([centre - ofd * along, centre + ofd * along, centre - bpd * across, centre + bpd * across])
    return ends / frame.spacing_mm


def test_the_tables_have_the_publisher_s_columns_and_whole_examinations_in_training_or_test(written, table):
    folder, names = written / "landmarks/landmarks/multicentre/HC18", ("Head", "Head_Train", "Head_Test")
    published = [(folder / f"{name}.csv").read_text().splitlines() for name in names]
    assert [lines[0] for lines in published] == [COLUMNS] * 3
    whole, training, test = (lines[1:] for lines in published)
    assert sorted(training + test) == sorted(whole)
    assert {line[:3] for line in test} == {"003", "007"}
    assert {line[:3] for line in training} == {f"{n:03d}" for n in range(8)} - {"003", "007"}
    assert table.groupby(table["case"].str[:3])["published_split"].nunique().max() == 1


def test_every_image_has_its_row_with_the_pixel_size_of_hc18_s_table(written, table):
    path = written / "landmarks/training_set_pixel_size_and_HC.csv"
    sizes = files.read_csv(path, []).set_index("filename")["pixel size(mm)"]
    assert {f"{name}.png" for name in table["case"]} == set(sizes.index)
    assert table["px_to_mm"].tolist() == [sizes[f"{name}.png"] for name in table["case"]]


def test_points_are_the_exact_ends_of_the_drawn_axes_rounded_to_whole_pixels(table):
    for name in table["case"]:
        points = head_points.as_arrays(table, [name])[0]
        assert np.array_equal(points, np.rint(points))
        assert points[0, 0] <= points[1, 0]  # the upper endpoint of OFD first
        assert points[2, 1] >= points[3, 1]  # the right endpoint of BPD first
        for ends, exact in zip(points.reshape(2, 2, 2), exact_endpoints(name).reshape(2, 2, 2)):
            errors = [np.abs(ends - order).max() for order in (exact, exact[::-1])]
            assert min(errors) < 0.6, name  # half a pixel of rounding, a tenth from fitting the drawn outline


def test_the_other_files_are_those_of_hc18_s_phantom(written):
    for path, content in contents(written / "hc18").items():
        if path.suffix == ".png":
            assert (written / "landmarks" / path).read_bytes() == content
