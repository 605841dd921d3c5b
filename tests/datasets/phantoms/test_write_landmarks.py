import numpy as np
import pandas as pd
import pytest

from lib.datasets import hc18, landmark_tables
from lib.datasets.phantoms import heads, write_images, write_landmarks
from lib.imaging import ellipse, head_points
from lib.study import files
from lib.verification import landmark_audit

SEED, SUBJECTS = 12, 8
COLUMNS = (
    "image_name,scale,center_w,center_h,ofd_1_x,ofd_1_y,ofd_2_x,ofd_2_y,bpd_1_x,bpd_1_y,bpd_2_x,bpd_2_y,"
    "SubjectID,px_to_mm_rate,Algo,Split"
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The phantom of HC18, without landmarks."""
    folder = tmp_path_factory.mktemp("bare")
    write_images.write_hc18(folder, SUBJECTS, SEED)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    write_landmarks.write_landmarks(folder, SUBJECTS, SEED)
    return folder


@pytest.fixture(scope="module")
def table(written):
    table, findings = landmark_tables.read(written / "landmarks", "multicentre")
    assert findings == []
    return table


def published(folder, name="Head.csv"):
    return (folder / "landmarks" / "multicentre" / "HC18" / name).read_text(encoding="utf-8").splitlines()


def exact_ends(name):
    """Ends of the axes of the head that the phantom drew, in pixels, by its own numbers."""
    subject, frame = int(name[:3]) + 1, int(name[4:-2] or 1)
    frame = heads.draw_frame(SEED, write_images.HC18_HEADS + subject, frame, write_images.DRAWN)
    angle, middle = np.deg2rad(frame.head.angle_deg), np.array(frame.head.centre_mm)
    along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    ofd, bpd = np.array(frame.head.axes_mm) / 2
    ends = np.stack([middle - ofd * along, middle + ofd * along, middle - bpd * across, middle + bpd * across])
    return ends / frame.spacing_mm


def test_the_tables_have_the_publisher_s_columns(written):
    for name in ("Head.csv", "Head_Train.csv", "Head_Test.csv"):
        assert published(written, name)[0] == COLUMNS


def test_every_image_has_one_row(written, table):
    images = {path.stem for path in (written / "training_set").glob("*HC.png")}
    assert len(table) == len(images) > SUBJECTS
    assert set(table["case"]) == images


def test_points_are_the_exact_ends_of_the_drawn_axes_rounded_to_whole_pixels(table):
    for name in table["case"]:
        given = head_points.as_arrays(table, [name])[0]
        assert np.array_equal(given, np.rint(given))
        for ends, exact in zip(given.reshape(2, 2, 2), exact_ends(name).reshape(2, 2, 2)):
            errors = [np.abs(ends - each).max() for each in (exact, exact[::-1])]
            assert min(errors) < 0.6, name  # half a pixel of rounding, a tenth from fitting the drawn outline


def test_lengths_are_the_truth_s_within_a_pixel(written, table):
    truth = files.read_csv(written / "truth.csv", []).set_index("case")
    for name in table["case"]:
        spacing = truth.loc[name, ["spacing_row_mm", "spacing_col_mm"]].to_numpy(float)
        found = head_points.line_lengths_mm(head_points.as_arrays(table, [name])[0], spacing)
        expected = {line: truth.loc[name, f"{line}_mm"] for line in head_points.LINES}
        assert found == pytest.approx(expected, abs=1.5 * spacing[0]), name  # both ends rounded in both directions


def test_ends_stand_in_the_publisher_s_order(table):
    heads_ = head_points.as_arrays(table, table["case"].tolist())
    assert (heads_[:, 0, 0] <= heads_[:, 1, 0]).all()  # the upper end of OFD first
    assert (heads_[:, 2, 1] >= heads_[:, 3, 1]).all()  # the right end of BPD first


def test_pixel_sizes_are_those_of_hc18_s_table(written, table):
    sizes = files.read_csv(written / "training_set_pixel_size_and_HC.csv", []).set_index("filename")["pixel size(mm)"]
    assert table["px_to_mm"].tolist() == [sizes[f"{name}.png"] for name in table["case"]]


def test_whole_examinations_are_dealt_to_training_and_test(written, table):
    training, test = (published(written, f"Head_{split}.csv")[1:] for split in ("Train", "Test"))
    assert sorted(training + test) == sorted(published(written)[1:])
    assert {line[:3] for line in training} & {line[:3] for line in test} == set()
    assert {line[:3] for line in test} == {"003", "007"}
    assert table.groupby(table["case"].str[:3])["published_split"].nunique().max() == 1


def test_the_audit_against_the_written_outlines_finds_nothing(written, table):
    found, _ = hc18.find_cases(written, [])
    masks = {case.name: hc18.read_mask(case.mask) for case in found}
    ellipses = {case.name: ellipse.reference_ellipse(masks[case.name] > 0, case.spacing_mm) for case in found}
    manifest = pd.DataFrame(
        [
            dict(
                zip(
                    ("case", "height", "width", "spacing_row_mm", "spacing_col_mm"),
                    (case.name, *masks[case.name].shape, *case.spacing_mm),
                )
            )
            for case in found
        ]
    )
    figures, findings = landmark_audit.audit(table, manifest, ellipses)
    assert findings == []
    assert (figures["fit"] == "as named").all()
    off = figures[[f"{point}_off_px" for point in head_points.POINTS]].to_numpy()
    assert off.max() < 0.9  # rounding by half a pixel in each direction, and the fit


def test_the_other_files_of_the_phantom_stay_as_they_were(bare, written):
    for path in sorted(bare.rglob("*")):
        if path.is_file():
            assert (written / path.relative_to(bare)).read_bytes() == path.read_bytes()


def test_written_again_the_tables_have_equal_bytes(written, tmp_path):
    write_landmarks.write_landmarks(tmp_path, SUBJECTS, SEED)
    tables = list((tmp_path / "landmarks").rglob("*.csv"))
    assert len(tables) == 3
    assert all(path.read_bytes() == (written / path.relative_to(tmp_path)).read_bytes() for path in tables)
