"""The registry: what a study may ask of a data set, whose layout a folder has, and how phantoms come to be."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import datasets
from lib.data import cases
from lib.data.dataset import Making
from lib.datasets.phantoms import cache
from lib.study import files, params, provenance
from tests import builders
from tests.builders import save_png

AT_HAND = datasets.at_hand  # before conftest.py hides what lies in this copy
PUBLISHED = [name for name, dataset in datasets.DATASETS.items() if dataset.made is None]
MADE = {  # subjects
    "phantom_brain": 3,
    "phantom_brain_structures": 10,
    "phantom_hc18": 4,
    "phantom_landmarks": 4,
    "phantom_lgg": 2,
    "phantom_tumour": 8,
}


def study(**changes):
    """A study's keys, whether they fit a data set or not."""
    return params.Study.model_construct(**builders.values(**changes))


def fault_of(**changes):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (each test looks at the whole text)
        datasets.of(study(**changes))
    return str(caught.value)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A data/raw of its own."""
    monkeypatch.setattr(files, "raw_folder", lambda name: tmp_path / "raw" / name)
    return tmp_path / "raw"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """A few subjects of each data set that the project makes itself."""
    root = tmp_path_factory.mktemp("phantoms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "raw_folder", lambda name: root / name)
        for name, subjects in MADE.items():
            datasets.make(name, subjects, 3)
    return root


# What a study may ask for


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_every_data_set_is_given_for_its_own_classes_and_groups(name):
    dataset = datasets.DATASETS[name]
    given = {"classes": list(dataset.classes), "groups": list(dataset.groups), "palette": []}
    assert datasets.of(study(dataset=name, postprocessing=["largest_component"], **given)) is dataset


def test_one_group_of_a_data_set_is_enough():
    dataset = datasets.DATASETS["busi"]
    assert datasets.of(study(dataset="busi", classes=list(dataset.classes), groups=["normal"])) is dataset


def test_an_unknown_data_set_is_refused_with_those_there_are():
    said = fault_of(dataset="hc19")
    assert said == f"dataset = 'hc19'   not known; allowed: {', '.join(datasets.DATASETS)}, or own_<name> for one's own"


def test_classes_of_another_data_set_are_refused_with_those_allowed():
    said = fault_of(dataset="hc18", classes=["background", "tumour"])
    assert said == "classes = ['background', 'tumour']   not those of hc18; allowed: ['background', 'head']"


def test_classes_in_another_order_are_refused():
    given = ["background", "csp", "parenchyma", "lv"]
    said = fault_of(dataset="brain_structures", classes=given, groups=["diverse"])
    assert said.startswith(f"classes = {given}   not those of brain_structures")


@pytest.mark.parametrize(
    ("dataset", "groups"), [("busi", []), ("busi", ["benign", "cyst"]), ("hc18", ["benign"]), ("phantom_tumour", [])]
)
def test_groups_that_a_data_set_lacks_or_needs_are_refused(dataset, groups):
    known = datasets.DATASETS[dataset]
    said = fault_of(dataset=dataset, classes=list(known.classes), groups=groups)
    assert said == f"groups = {groups}   not those of {dataset}; allowed: some of {list(known.groups)}"


def test_colours_for_a_published_data_set_are_refused():
    said = fault_of(dataset="hc18", palette=[[0, 0, 0], [255, 0, 0]])
    assert said.startswith("palette = [[0, 0, 0], [255, 0, 0]]   not those of hc18; allowed: [], because a published")


@pytest.mark.parametrize("name", ["hc18", "phantom_hc18", "phantom_landmarks"])
@pytest.mark.parametrize("landmarks", ["multicentre", "role_challenge"])
def test_landmarks_are_learnt_of_data_sets_of_heads(name, landmarks):
    assert datasets.of(study(dataset=name, landmarks=landmarks)) is datasets.DATASETS[name]


@pytest.mark.parametrize("name", ["busi", "lgg", "brain_structures", "phantom_tumour"])
def test_landmarks_of_a_data_set_without_heads_are_refused(name):
    known = datasets.DATASETS[name]
    keys = {"classes": list(known.classes), "groups": list(known.groups), "postprocessing": []}
    said = fault_of(dataset=name, landmarks="multicentre", **keys)
    assert said == f"landmarks = multicentre   not those of {name}; allowed: none: it shows no heads"


@pytest.mark.parametrize("name", ["lgg", "phantom_lgg"])
@pytest.mark.parametrize("steps", [["fill_holes"], ["largest_component", "minimum_area"]], ids=str)
def test_steps_that_know_no_volumes_are_refused_for_them(name, steps):
    said = fault_of(dataset=name, classes=["background", "lesion"], postprocessing=steps)
    assert said == f"postprocessing = {steps}   not those of {name}; allowed: largest_component or [] for volumes"


@pytest.mark.parametrize("steps", [[], ["largest_component"]], ids=str)
def test_volumes_may_do_without_steps_or_keep_their_largest_component(steps):
    given = {"classes": ["background", "lesion"], "postprocessing": steps}
    assert datasets.of(study(dataset="lgg", **given)) is datasets.DATASETS["lgg"]


def test_all_faults_of_a_data_set_are_said_at_once():
    said = fault_of(
        dataset="busi", classes=["background"], groups=["cyst"], palette=[[0, 0, 0]], landmarks="multicentre"
    )
    assert [line.partition(" = ")[0] for line in said.splitlines()] == ["classes", "groups", "palette", "landmarks"]


def test_volumes_alone_have_three_channels_and_findings_that_need_pixels():
    of_volumes = {name for name, dataset in datasets.DATASETS.items() if dataset.volumes}
    assert of_volumes == {"lgg", "phantom_lgg"}
    for name, dataset in datasets.DATASETS.items():
        assert dataset.volumes == (dataset.channels == 3) == (dataset.inspect is not None), name
        assert 0 <= dataset.shown_channel < dataset.channels, name


# One's own data


def own(**changes):
    given = {"dataset": "own_cells", "classes": ["background", "cell", "core"], "groups": [], "palette": []}
    return study(**(given | changes))


def test_one_s_own_data_has_the_study_s_classes_and_no_groups():
    dataset = datasets.of(own())
    assert (dataset.classes, dataset.groups, dataset.made) == (("background", "cell", "core"), (), None)
    assert (dataset.title, dataset.licence) == ("Own data (cells)", "not published")


def test_groups_of_one_s_own_data_are_refused():
    with pytest.raises(ValueError, match=r"groups = \['a'\]   one's own data has no groups; allowed: \[\]"):
        datasets.of(own(groups=["a"]))


def test_one_s_own_masks_are_read_by_the_study_s_colours(tmp_path):
    colours = np.array([[0, 0, 0], [10, 20, 30], [200, 100, 50]], np.uint8)
    mask = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    path = save_png(tmp_path / "a.png", colours[mask])
    read = datasets.of(own(palette=colours.tolist())).read_mask([path])
    assert np.array_equal(read, mask)


def test_one_s_own_masks_are_read_by_grey_values_without_colours(tmp_path):
    mask = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    path = save_png(tmp_path / "a.png", mask)
    assert np.array_equal(datasets.of(own()).read_mask([path]), mask)
    with pytest.raises(ValueError, match=r"a\.png: values .*2 in 2 pixels"):
        datasets.of(own(classes=["background", "cell"])).read_mask([path])


# Whose layout a folder has


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("phantom_brain", "brain_structures"),
        ("phantom_brain_structures", "brain_structures"),
        ("phantom_hc18", "hc18"),
        ("phantom_landmarks", "hc18"),
        ("phantom_lgg", "lgg"),
        ("phantom_tumour", "ultrasound_fetus"),
    ],
)
def test_the_layout_that_a_phantom_is_drawn_in_is_recognised(phantoms, made, expected):
    assert datasets.recognise(phantoms / made) == expected


def test_hc18_s_layout_is_recognised(tmp_path):
    assert datasets.recognise(builders.write_hc18(tmp_path / "some name", builders.heads(3))) == "hc18"


def test_busi_s_layout_is_recognised_from_the_folder_around_it_too(tmp_path):
    inner = tmp_path / "Dataset_BUSI_with_GT"
    for ending in ("", "_mask"):
        save_png(inner / "malignant" / f"malignant (7){ending}.png", np.full((4, 4), 255, np.uint8))
    assert [datasets.recognise(folder) for folder in (inner, tmp_path)] == ["busi", "busi"]


def test_of_two_layouts_in_one_folder_the_one_with_more_cases_is_taken(tmp_path):
    builders.write_hc18(tmp_path, builders.heads(3))
    for number in range(4):
        for ending in ("", "_mask"):
            save_png(tmp_path / "benign" / f"benign ({number}){ending}.png", np.full((4, 4), 255, np.uint8))
    assert datasets.recognise(tmp_path) == "busi"
    for number in range(2):
        (tmp_path / "benign" / f"benign ({number}).png").unlink()
    assert datasets.recognise(tmp_path) == "hc18"


def test_a_foreign_folder_is_told_what_each_layout_misses(tmp_path):
    save_png(tmp_path / "holiday" / "beach.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="of no known layout") as caught:
        datasets.recognise(tmp_path)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{tmp_path}: of no known layout"
    missed = {
        "hc18": "no images such as training_set/000_HC.png; expected HC18's layout",
        "lgg": "expected kaggle_3m/ with folders such as TCGA_CS_4941_19960909",
        "brain_structures": "expected folders Trans-thalamic, Trans-ventricular, Trans-cerebellum, Diverse Fetal Hea",
        "ultrasound_fetus": "expected train/, validation/, test/ with benign/, malignant/, normal/",
        "busi": 'expected Dataset_BUSI_with_GT/ with folders benign, malignant, normal and images such as "benign/',
    }
    assert [line.split(":")[0].strip() for line in lines] == PUBLISHED == list(missed)
    for line, words in zip(lines, missed.values()):
        assert words in line
        assert "holiday" in line or "training_set" in line  # what is there, or what is missing


def test_an_absent_or_empty_folder_is_of_no_layout(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ValueError, match="of no known layout"):
            datasets.recognise(folder)


def test_a_layout_without_one_sound_case_is_still_recognised(tmp_path):
    builders.write_hc18(tmp_path, builders.heads(2))
    for path in (tmp_path / "training_set").glob("*_Annotation.png"):
        path.unlink()
    assert datasets.recognise(tmp_path) == "hc18"


# What lies in data/raw


def test_at_hand_are_published_data_sets_that_say_who_is_who_but_for_the_one_itself(raw):
    for name in ("hc18", "lgg", "busi", "ultrasound_fetus", "phantom_hc18", "own_cells", "landmarks", "holiday"):
        (raw / name).mkdir(parents=True)
    (raw / "brain_structures").write_text("no folder")
    assert AT_HAND("busi") == {"hc18": raw / "hc18"}
    assert AT_HAND("hc18") == {}


@pytest.mark.parametrize("name", ["hc18", "own_heads"])
def test_landmarks_of_published_and_own_images_lie_in_a_folder_of_their_own(raw, name):
    expected = r"data/raw/landmarks: no such folder; link your copy with 'make study STUDY=<name> LANDMARKS=<folder>'"
    with pytest.raises(ValueError, match=expected):
        datasets.landmarks_folder(name)
    (raw / "landmarks").mkdir(parents=True)
    assert datasets.landmarks_folder(name) == raw / "landmarks"


def test_a_phantom_brings_its_landmarks_along(raw):
    (raw / "landmarks").mkdir(parents=True)
    with pytest.raises(ValueError, match="no such folder"):
        datasets.landmarks_folder("phantom_landmarks")
    (raw / "phantom_landmarks" / "landmarks").mkdir(parents=True)
    assert datasets.landmarks_folder("phantom_landmarks") == raw / "phantom_landmarks" / "landmarks"


# A phantom's truth


@pytest.mark.parametrize("name", MADE)
def test_every_case_of_a_phantom_gets_what_its_program_knows(phantoms, name):
    dataset = datasets.DATASETS[name]
    groups = {"phantom_tumour": ["malignant"], "phantom_brain": ["trans-thalamic"]}.get(name, dataset.groups)
    found, _ = datasets.find_cases(dataset, phantoms / name, groups)
    truth = pd.read_csv(phantoms / name / datasets.TRUTH, dtype=str).set_index("case")
    assert found
    for case in found:
        row = truth.loc[case.name]
        assert case.reference_mm == {q: float(row[f"{q}_mm"]) for q in cases.QUANTITIES if f"{q}_mm" in row}
        assert case.stratum == row.get("stratum", case.stratum)


def test_of_a_phantom_of_brain_structures_all_three_head_sizes_are_known(phantoms):
    dataset = datasets.DATASETS["phantom_brain"]
    found, _ = datasets.find_cases(dataset, phantoms / "phantom_brain", ["trans-thalamic"])
    assert {tuple(case.reference_mm) for case in found} == {cases.QUANTITIES}


def test_a_case_without_a_row_of_truth_stops(phantoms, tmp_path):
    folder = shutil.copytree(phantoms / "phantom_hc18", tmp_path / "phantom_hc18")
    truth = files.read_csv(folder / datasets.TRUTH, [])
    files.write_csv(folder / datasets.TRUTH, truth[truth["case"] != "001_HC"])
    found, findings = datasets.find_cases(datasets.DATASETS["phantom_hc18"], folder, [])
    assert "001_HC" not in [case.name for case in found]
    assert [(f.severity, f.check.name, f.case) for f in findings] == [("stop", "missing truth", "001_HC")]


def test_a_published_data_set_needs_no_truth(phantoms):
    found, findings = datasets.find_cases(datasets.DATASETS["hc18"], phantoms / "phantom_hc18", [])
    assert found
    assert findings == []


# Making


@pytest.fixture
def small(raw, monkeypatch):
    """A phantom of which it is counted how often it was written."""
    written = []

    def write(folder, subjects, seed):
        written.append((subjects, seed))
        (folder / "data.txt").write_text(f"{subjects} {seed}")

    made = Making(write, 150, 12, ("lib.imaging.growth",))
    monkeypatch.setitem(datasets.DATASETS, "phantom_brain", replace(datasets.DATASETS["phantom_brain"], made=made))
    return written


def test_a_phantom_is_made_once(small, raw):
    for _ in range(2):
        assert datasets.prepare("phantom_brain") == raw / "phantom_brain"
    assert small == [(150, 12)]
    assert (raw / "phantom_brain" / "data.txt").read_text() == "150 12"


def test_a_phantom_is_made_again_when_its_code_changed_and_with_its_own_size_and_seed(small, monkeypatch):
    datasets.make("phantom_brain", 9, 3)
    datasets.prepare("phantom_brain")
    assert small == [(9, 3)]
    monkeypatch.setattr(provenance, "module_hash", lambda module: f"new {module}")
    datasets.prepare("phantom_brain")
    datasets.prepare("phantom_brain")
    assert small == [(9, 3), (9, 3)]


@pytest.mark.parametrize(("subjects", "seed"), [(10, 3), (9, 4)])
def test_a_phantom_is_made_again_for_another_size_or_seed(small, subjects, seed):
    datasets.make("phantom_brain", 9, 3)
    datasets.make("phantom_brain", subjects, seed)
    assert small == [(9, 3), (subjects, seed)]


def test_the_record_names_size_seed_and_code(small, raw):
    datasets.make("phantom_brain", 9, 3)
    expected = {"subjects": 9, "seed": 3, "code": {"lib.imaging.growth": provenance.module_hash("lib.imaging.growth")}}
    assert cache.read_record(raw / "phantom_brain") == expected


def test_a_phantom_s_code_is_all_that_decides_what_it_shows():
    for name, dataset in datasets.DATASETS.items():
        if dataset.made is not None:
            drawing = {module for module in dataset.made.modules if module.startswith("lib.phantoms.")}
            reached = provenance.reachable(drawing) - {"lib.study.files"}
            assert reached <= {*dataset.made.modules, "lib", "lib.datasets.phantoms"}, name


@pytest.mark.parametrize("content", ["file", "link"])
def test_a_phantom_is_never_written_over_foreign_files(small, raw, tmp_path, content):
    folder = raw / "phantom_brain"
    raw.mkdir()
    if content == "file":
        files.write_text(folder / "thesis.txt", "mine")
    else:
        files.write_text(tmp_path / "mine" / "thesis.txt", "mine")
        folder.symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"phantom_brain: (found without phantom\.json|is a link)"):
        datasets.prepare("phantom_brain")
    assert (folder / "thesis.txt").read_text() == "mine"
    assert small == []


def test_a_published_data_set_is_not_made(raw):
    with pytest.raises(ValueError, match="hc18 is published, not made by this project"):
        datasets.make("hc18", 3, 1)


@pytest.mark.parametrize("name", ["hc18", "own_cells"])
def test_an_absent_data_set_is_refused_and_says_how_to_get_it(raw, name):
    expected = rf"data/raw/{name}: no such folder; link your copy with 'make study STUDY=<name> DATA=<folder>'"
    with pytest.raises(ValueError, match=expected):
        datasets.prepare(name)


@pytest.mark.parametrize("name", ["busi", "own_cells"])
def test_a_data_set_that_is_there_is_left_as_it_is(raw, name):
    files.write_text(raw / name / "a.txt", "a")
    assert datasets.prepare(name) == raw / name
    assert [path.name for path in (raw / name).iterdir()] == ["a.txt"]
