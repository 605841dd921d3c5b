import re

import numpy as np
import pytest

from lib import datasets
from lib.datasets import proposal
from lib.study import files, params, study_files
from tests import builders

HEADS = builders.heads(12)
PROTOCOL = params.values_of(params.read_study(files.study_file("hc18_quick")))
DEMO = params.values_of(params.read_study(files.study_file("demo")))


def write(folder, values=(0, 255), count=12, subjects=12, shape=(60, 90)):
    """Custom data whose masks have stripes of these values."""
    for number in range(count):
        rows = np.array(values, np.uint8)[np.arange(shape[0]) * len(values) // shape[0]]
        builders.save_png(folder / "masks" / f"a{number}.png", np.repeat(rows[:, None], shape[1], axis=1))
        builders.save_png(folder / "images" / f"a{number}.png", builders.noise(shape, number))
    rows = [f"a{number},s{number % subjects}" for number in range(count)]
    (folder / "cases.csv").write_text("\n".join(["name,subject", *rows]))
    return folder


@pytest.fixture
def studies(tmp_path, monkeypatch):
    """An empty params/."""
    (tmp_path / "params").mkdir()
    monkeypatch.setattr(files, "study_file", lambda name: tmp_path / "params" / f"{name}.yaml")
    return tmp_path / "params"


@pytest.mark.parametrize("protocol", [PROTOCOL, DEMO], ids=["like hc18_quick", "like demo"])
@pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 1, 2), (10, 90, 170, 250)])
def test_a_proposed_study_file_is_valid_as_it_is_and_every_key_has_a_comment(studies, tmp_path, protocol, values):
    proposed, reasons = proposal.propose("ovaries", write(tmp_path / "data", values), protocol, "other")
    path = study_files.write(proposed, reasons, "Ovaries")
    study, text = params.read_study(path), path.read_text()
    dataset = datasets.of(study)
    assert dataset.classes == tuple(study.classes)
    assert dataset.read_mask([tmp_path / "data" / "masks" / "a0.png"]).max() == len(values) - 1
    assert (study.dataset, study.head_classes, study.postprocessing) == ("own_ovaries", [], [])
    weights = (study.dice_class_weights, study.cross_entropy_class_weights, study.selection_class_weights)
    assert {len(each) for each in weights} == {len(values)}
    assert study.learning_rate == protocol["learning_rate"]
    assert "HC18" not in text
    before = ""
    for line in text.splitlines():
        assert len(line) <= 120
        assert not re.match(r"\w+:", line) or "  # " in line or before.startswith("# ")
        before = line


def test_size_folds_and_epochs_follow_from_the_images(tmp_path):
    values, reasons = proposal.propose("a", write(tmp_path), PROTOCOL, "hc18_quick")
    assert values["image_size"] == [64, 96]  # never enlarged but to a multiple of 16
    assert (values["fold_count"], values["folds"]) == (5, [0, 1, 2, 3, 4])
    assert reasons["fold_count"] == "12 images of 12 subjects"
    assert values["epochs"] == 300
    assert reasons["epochs"] == "300 training steps: 7 training images in batches of 16"
    assert reasons["classes"] == "from 12 masks: grey values 0 and 255"
    assert proposal.propose("own_a", tmp_path, PROTOCOL, "")[0]["dataset"] == "own_a"


@pytest.mark.parametrize(
    ("native", "size"), [((540, 800), [128, 192]), ((2000, 100), [704, 32]), ((44, 40), [48, 32]), ((20, 30), [32, 32])]
)
def test_the_network_size_has_as_many_pixels_as_the_protocol_and_the_aspect_of_the_images(native, size):
    (proposed, _) = proposal.network_size(native, PROTOCOL)["image_size"]
    assert proposed == size


@pytest.mark.parametrize(
    ("count", "subjects", "folds", "tested"), [(3, 3, 3, [0, 1, 2]), (8, 8, 4, [0, 1, 2, 3]), (201, 50, 5, [0])]
)
def test_few_subjects_have_fewer_folds_and_many_cases_are_tested_in_one(count, subjects, folds, tested):
    cases = [datasets.cases.Case(str(n), str(n % subjects), files.ROOT, (files.ROOT,), None) for n in range(count)]
    rows = proposal.folds_and_epochs(cases, 16)
    assert (rows["fold_count"][0], rows["folds"][0]) == (folds, tested)
    assert rows["epochs"][0] * -(-(count * (folds - 2) // folds) // 16) <= proposal.STEPS * 1.1


@pytest.mark.parametrize(
    ("change", "like", "message"),
    [
        ("two", PROTOCOL, "2 subjects; expected 3 or more: training, validation and test share no subject"),
        (
            "hc18",
            PROTOCOL,
            "HC18, fetal head circumference, not own data; copy a study of it: python -m lib new <name>",
        ),
        ("masks", PROTOCOL, "no image has a mask; the first: a0: missing mask (no file)"),
        (
            "",
            PROTOCOL | {"landmarks": "multicentre"},
            "--like x: a study of landmarks or volumes; expected one of images",
        ),
        ("", {"landmarks": "none"}, "--like x: a study of landmarks or volumes; expected one of images"),
    ],
)
def test_what_cannot_be_proposed_is_refused_with_advice(tmp_path, change, like, message):
    folder = write(tmp_path / "data", subjects=2 if change == "two" else 12)
    if change == "hc18":
        folder = builders.write_hc18(tmp_path / "hc18", HEADS[:3])
    if change == "masks":
        for path in (folder / "masks").iterdir():
            path.rename(path.with_stem(f"no {path.stem}"))
    with pytest.raises(ValueError, match=re.escape(message)):
        proposal.propose("a", folder, like, "x")
