import re
import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import datasets
from lib.data import cases
from lib.data.dataset import Phantom
from lib.datasets import recognition
from lib.datasets.phantoms import cache
from lib.study import files, params, provenance
from tests import builders
from tests.builders import save_png

AVAILABLE = datasets.available  # before conftest.py hides the data in this copy
PUBLISHED = [name for name, dataset in datasets.DATASETS.items() if dataset.phantom is None]
PHANTOMS = {"phantom_brain": 3, "phantom_brain_structures": 10, "phantom_hc18": 4}  # subjects
PHANTOMS |= {"phantom_landmarks": 4, "phantom_lgg": 2, "phantom_tumour": 8}
HEADS, VOLUMES = "allowed: ['background', 'head']", "allowed: largest_component or [] for volumes"
NO_HEADS, GROUPS = "allowed: none, since the data set contains no heads", "requires data sets of several groups"
IMAGES = {f"datasets.phantoms.{name}" for name in ("heads", "lesions", "ultrasound", "write_images")}
IMAGES |= {"imaging.growth"}
POINTS = {f"imaging.{name}" for name in ("ellipse", "head_points", "connected_parts", "image_files", "shapes")}


def study(**changes):
    """A study's keys, whether they fit a data set or not."""
    return params.Study.model_construct(**builders.values(**changes))


def fault_of(**changes):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (tests check the whole text)
        datasets.of(study(**changes))
    return str(caught.value)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "raw_folder", lambda name: tmp_path / "raw" / name)
    return tmp_path / "raw"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "raw_folder", lambda name: root / name)
        for name, subjects in PHANTOMS.items():
            datasets.make(name, subjects, 3)
    return root


def fitting(name, **changes):
    """Keys of a study that fit a data set, with changes."""
    dataset = datasets.DATASETS[name]
    keys = {"dataset": name, "classes": list(dataset.classes), "postprocessing": []}
    return keys | ({"groups": list(dataset.groups)} if dataset.groups else {}) | changes


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {"postprocessing": ["largest_component"]}) for name in datasets.DATASETS),
        ("busi", {"groups": ["normal"]}),
        ("lgg", {}),
        *((name, {"landmarks": "multicentre"}) for name in ("hc18", "phantom_hc18", "phantom_landmarks")),
        ("hc18", {"landmarks": "role_challenge"}),
    ],
)
def test_every_data_set_accepts_keys_that_fit_it(name, changes):
    assert datasets.of(study(**fitting(name, **changes))) is datasets.DATASETS[name]


@pytest.mark.parametrize(
    ("name", "changes", "hint"),
    [
        ("hc18", {"classes": ["background", "tumour"]}, HEADS),
        ("hc18", {"classes": ["head", "background"]}, HEADS),  # another order
        ("busi", {"groups": ["benign", "x"]}, "allowed: a subset of ['benign', 'malignant', 'normal']"),
        *((n, {"landmarks": "multicentre"}, NO_HEADS) for n in ("busi", "lgg", "phantom_tumour")),
        ("lgg", {"postprocessing": ["fill_holes"]}, VOLUMES),
        ("phantom_lgg", {"postprocessing": ["largest_component", "x"]}, VOLUMES),
        ("hc18", {"groups": ["benign"]}, GROUPS),
        ("own_cells", {"groups": ["benign"]}, GROUPS),
        ("hc18", {"palette": [[0, 0, 0], [255, 0, 0]]}, "requires custom data sets"),
        ("hc18", {"crop_level": 0.1}, "requires volumes"),
        ("lgg", {"clahe_probability": 0.2}, "requires images"),
        ("hc18", {"nsd_tolerance_px": 3.0}, "requires class regions without pixel sizes"),
        ("busi", {"nsd_tolerance_mm": 1.0}, "requires class regions with pixel sizes"),
    ],
)
def test_a_key_or_value_that_a_data_set_does_not_have_is_refused_with_a_hint(name, changes, hint):
    known = fitting(name) if name in datasets.DATASETS else {"dataset": name, "palette": []}
    ((key, value),) = changes.items()
    words = "does not fit" if hint.startswith("allowed") else "not used with"
    faults = fault_of(**(known | changes)).splitlines()
    assert f"{key} = {value}   {words} {name}; {hint}" in faults
    assert len(faults) == 1 or key == "crop_level"  # which brings the other keys of volumes with it


@pytest.mark.parametrize(
    ("name", "key"),
    [("own_cells", "palette"), ("busi", "groups"), ("hc18", "clahe_probability")]
    + [("hc18", "nsd_tolerance_mm"), ("busi", "nsd_tolerance_px"), ("own_cells", "nsd_tolerance_mm")]
    + [("own_cells", "nsd_tolerance_px"), ("lgg", "nsd_tolerance_px")]
    + [("phantom_lgg", key) for key in builders.OF_VOLUMES],
)
def test_a_key_that_a_data_set_needs_is_required(name, key):
    known = fitting(name) if name in datasets.DATASETS else {"dataset": name, "palette": []}
    given = {k: v for k, v in builders.values(**known).items() if k != key}
    for more in ({}, {key: None}):
        nullable, missing = more and key == "area_weight_floor", f"^{key}   missing; {name} requires it, as"
        with nullcontext() if nullable else pytest.raises(ValueError, match=missing):  # null means no weights
            datasets.of(params.Study.model_construct(**given | more))


def test_all_faults_are_reported_at_once_and_an_unknown_data_set_with_those_available():
    wrong = {"classes": ["background"], "groups": ["cyst"], "palette": [[0, 0, 0]], "landmarks": "multicentre"}
    message = fault_of(dataset="busi", **wrong)
    assert sorted(line.partition(" = ")[0] for line in message.splitlines()) == sorted(wrong)
    allowed = f"{', '.join(datasets.DATASETS)}, or own_<name> for your own data"
    assert fault_of(dataset="hc19") == f"dataset = 'hc19'   unknown; allowed: {allowed}"


def own(**changes):
    return study(**({"dataset": "own_cells", "classes": ["background", "cell", "core"], "palette": []} | changes))


def test_a_custom_data_set_has_the_study_s_classes_and_colours_and_no_groups(tmp_path):
    dataset = datasets.of(own())
    assert (dataset.classes, dataset.groups, dataset.phantom) == (("background", "cell", "core"), (), None)
    assert (dataset.title, dataset.licence) == ("Own data (cells)", "not publicly available")
    colours = np.array([[0, 0, 0], [10, 20, 30], [200, 100, 50]], np.uint8)
    mask = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    coloured, grey = save_png(tmp_path / "colours.png", colours[mask]), save_png(tmp_path / "grey.png", mask)
    assert np.array_equal(datasets.of(own(palette=colours.tolist())).read_mask([coloured]), mask)
    assert np.array_equal(dataset.read_mask([grey]), mask)
    with pytest.raises(ValueError, match=r"grey\.png: values .*2 in 2 pixels"):
        datasets.of(own(classes=["background", "cell"])).read_mask([grey])


def test_acronyms_are_those_at_the_start_of_titles():
    assert datasets.acronyms() == ["HC18", "LGG", "BUSI"]


def test_available_are_other_published_data_sets_that_identify_subjects(raw):
    for name in ("hc18", "lgg", "busi", "ultrasound_fetus", "phantom_hc18", "own_cells", "landmarks", "holiday"):
        (raw / name).mkdir(parents=True)
    (raw / "brain_structures").write_text("no folder")
    assert AVAILABLE("busi") == {"hc18": raw / "hc18"}
    assert AVAILABLE("hc18") == {}


@pytest.mark.parametrize(
    ("name", "path"),
    [("hc18", "landmarks"), ("own_heads", "landmarks"), ("phantom_landmarks", "phantom_landmarks/landmarks")],
)
def test_landmarks_are_in_their_own_folder_or_in_that_of_a_phantom(raw, name, path):
    (raw / ("hc18" if path == "landmarks" else "landmarks")).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"data/raw/landmarks: .*LANDMARKS=<folder>.*download landmarks"):
        datasets.landmarks_folder(name)
    (raw / path).mkdir(parents=True)
    assert datasets.landmarks_folder(name) == raw / path


@pytest.mark.parametrize(
    ("name", "advice"),
    [("hc18", ", or run 'python -m lib download hc18'"), ("own_cells", " (docs/howto-own-data.md)")],
)
def test_a_missing_data_set_is_refused_with_advice_and_an_existing_one_is_not_changed(raw, tmp_path, name, advice):
    message = f"data/raw/{name}: {{}}; link your copy with 'make study STUDY=<name> DATA=<folder>'{advice}"
    with pytest.raises(ValueError, match=f"^{re.escape(message.format('no such folder'))}$"):
        datasets.prepare(name)
    raw.mkdir()
    (raw / name).symlink_to(tmp_path / "disk")
    with pytest.raises(
        ValueError, match=re.escape(message.format(f"a link to {tmp_path}/disk, which is not available"))
    ):
        datasets.prepare(name)
    (raw / name).unlink()
    files.write_text(raw / name / "a.txt", "a")
    assert datasets.prepare(name) == raw / name
    assert [path.name for path in (raw / name).iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", PHANTOMS)
def test_the_layout_of_a_phantom_is_recognised_and_every_case_has_its_true_measurements(phantoms, name):
    dataset = datasets.DATASETS[name]
    assert recognition.recognise(phantoms / name) == name
    groups = {"phantom_tumour": ["malignant"], "phantom_brain": ["trans-thalamic"]}.get(name, dataset.groups)
    found, _ = datasets.find_cases(dataset, phantoms / name, groups)
    truth = pd.read_csv(phantoms / name / datasets.TRUTH, dtype=str).set_index("case")
    assert found
    for case in found:
        row = truth.loc[case.name]
        assert case.reference_mm == {q: float(row[f"{q}_mm"]) for q in cases.QUANTITIES if f"{q}_mm" in row}
        assert case.stratum == row.get("stratum", case.stratum)
        assert name != "phantom_brain" or tuple(case.reference_mm) == cases.QUANTITIES


def test_a_case_without_a_row_of_truth_stops_and_a_published_data_set_needs_none(phantoms, tmp_path):
    folder = shutil.copytree(phantoms / "phantom_hc18", tmp_path / "phantom_hc18")
    truth = files.read_csv(folder / datasets.TRUTH, [])
    files.write_csv(folder / datasets.TRUTH, truth[truth["case"] != "001_HC"])
    found, findings = datasets.find_cases(datasets.DATASETS["phantom_hc18"], folder, [])
    assert "001_HC" not in [case.name for case in found]
    assert [(f.severity, f.check.name, f.case) for f in findings] == [("stop", "missing truth", "001_HC")]
    found, findings = datasets.find_cases(datasets.DATASETS["hc18"], folder, [])
    assert "001_HC" in [case.name for case in found]
    assert findings == []


@pytest.fixture
def small(raw, monkeypatch):
    """A phantom that records each time it is written."""
    written = []

    def write(folder, subjects, seed):
        written.append((subjects, seed))
        (folder / "data.txt").write_text(f"{subjects} {seed}")

    write.__module__ = "lib.imaging.growth"
    dataset = replace(datasets.DATASETS["phantom_brain"], phantom=Phantom(write, 150, 12, "the phantom", "a head"))
    monkeypatch.setitem(datasets.DATASETS, "phantom_brain", dataset)
    return written


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, IMAGES) for name in ("phantom_brain", "phantom_hc18", "phantom_tumour")),
        ("phantom_landmarks", IMAGES | POINTS | {"datasets.phantoms.write_landmarks"}),
        ("phantom_lgg", {"datasets.phantoms.write_volumes", "datasets.phantoms.brains"}),
    ],
)
def test_a_phantom_s_record_contains_all_code_that_determines_its_files(phantoms, name, expected):
    code = cache.read_record(phantoms / name)["code"]
    assert code == {f"lib.{module}": provenance.module_hash(f"lib.{module}") for module in expected}


def test_a_phantom_is_rewritten_only_if_stale_and_with_its_recorded_size_and_seed(small, raw, monkeypatch):
    for _ in range(2):
        assert datasets.prepare("phantom_brain") == raw / "phantom_brain"
    assert small == [(150, 12)]
    small.clear()
    datasets.make("phantom_brain", 9, 3)
    code = {"lib.imaging.growth": provenance.module_hash("lib.imaging.growth")}
    assert cache.read_record(raw / "phantom_brain") == {"subjects": 9, "seed": 3, "code": code}
    datasets.prepare("phantom_brain")
    assert small == [(9, 3)]
    monkeypatch.setattr(provenance, "module_hash", lambda module: f"new {module}")
    for _ in range(2):
        datasets.prepare("phantom_brain")
    assert small == [(9, 3), (9, 3)]
    for subjects, seed in ((10, 3), (10, 4)):
        datasets.make("phantom_brain", subjects, seed)
        assert small[-1] == (subjects, seed)


@pytest.mark.parametrize("content", ["file", "link"])
def test_a_phantom_is_never_written_over_foreign_files(small, raw, tmp_path, content):
    folder = raw / "phantom_brain"
    raw.mkdir()
    files.write_text((folder if content == "file" else tmp_path / "mine") / "thesis.txt", "mine")
    if content == "link":
        folder.symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"phantom_brain: (has no phantom\.json|is a link)"):
        datasets.prepare("phantom_brain")
    assert (folder / "thesis.txt").read_text() == "mine"
    assert small == []
    with pytest.raises(ValueError, match="hc18 is a published data set and cannot be generated"):
        datasets.make("hc18", 3, 1)
