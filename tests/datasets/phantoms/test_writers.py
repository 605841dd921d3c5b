import pandas as pd
import pytest

from lib.datasets import brain_structures, hc18, lgg, ultrasound_fetus
from lib.study import environment
from tests.datasets.phantoms.builders import SEED, WRITERS, contents, read_truth


@pytest.mark.parametrize(
    ("name", "fewer"),
    [("brain", 3), ("brain_structures", 9), ("hc18", 2), ("tumour", 9), ("landmarks", 2), ("lgg", 2)],
)
def test_fewer_subjects_drawn_in_three_threads_are_the_first_of_more(written, tmp_path, monkeypatch, name, fewer):
    monkeypatch.setenv(environment.THREADS_VARIABLE, "3")
    WRITERS[name][0](tmp_path, fewer, SEED)
    whole, part = contents(written / name), contents(tmp_path)
    images = [path for path in part if path.suffix in (".png", ".tif")]
    assert len(images) >= fewer
    assert all(part[path] == whole[path] for path in images)
    truth = read_truth(tmp_path)
    pd.testing.assert_frame_equal(truth, read_truth(written / name).loc[truth.index], check_dtype=False)


@pytest.mark.parametrize("name", WRITERS)
def test_too_many_subjects_for_names_and_a_folder_that_is_not_empty_are_refused(written, tmp_path, name):
    write, _, most = WRITERS[name]
    for subjects in (0, -1, most + 1):
        with pytest.raises(ValueError, match=f"subjects = {subjects}   not allowed; 1 to {most}"):
            write(tmp_path, subjects, SEED)
    assert list(tmp_path.iterdir()) == []
    before = contents(written / name)
    with pytest.raises(FileExistsError):
        write(written / name, 3, SEED)
    assert contents(written / name) == before


@pytest.mark.parametrize(
    ("name", "layout", "groups"),
    [
        ("brain", brain_structures, ["trans-thalamic"]),
        ("brain_structures", brain_structures, brain_structures.GROUPS),
        ("hc18", hc18, []),
        ("landmarks", hc18, []),
        ("lgg", lgg, []),
        ("tumour", ultrasound_fetus, ["malignant"]),
    ],
)
def test_the_layout_s_reader_gives_the_cases_of_the_truth_with_their_pixel_sizes(written, name, layout, groups):
    cases, findings = layout.find_cases(written / name, groups)
    assert [finding for finding in findings if finding.severity == "stop"] == []
    truth = read_truth(written / name)
    assert truth.index.is_unique
    assert truth.notna().all(axis=None)
    if name == "tumour":
        truth = truth[truth["lesion_mm2"] > 0]  # tissue without a mass has no outline and is in other groups
        assert [case.spacing_mm for case in cases] == [None] * len(truth)
    else:
        assert {case.name: case.subject for case in cases} == truth["subject"].to_dict()
        spacings = dict(zip(truth.index, zip(truth["spacing_row_mm"], truth["spacing_col_mm"])))
        assert all(case.spacing_mm == pytest.approx(spacings[case.name]) for case in cases)
    assert sorted(case.name for case in cases) == sorted(truth.index)


def test_no_two_phantoms_show_one_head(written):
    sizes = [set(read_truth(written / name)["hc_mm"]) for name in ("brain", "brain_structures", "hc18")]
    assert len(set.union(*sizes)) == sum(map(len, sizes))
