"""Weights that are passed on: half precision, card, licence, checksums, and the same numbers as the study's own."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import safetensors
import torch

from lib import __main__, models, prediction
from lib.data import cases
from lib.imaging import image_files, mask_files
from lib.prediction import ensemble, shipping
from lib.report import model_card
from lib.study import files
from tests.builders import one_thread  # noqa: F401
from tests.builders_predict import head_image, predict, write_model
from tests.conftest import python
from tests.prediction.test_ensemble import rewritten

RUN = "fold0-seed0.safetensors"
TWICE = """
import pathlib, sys
from lib import __main__
first, second = sys.argv[1:]
statuses = [__main__.main(["ship", "tiny", folder]) for folder in (first, second, second)]
(pathlib.Path(second) / "mine.txt").write_text("mine")
print(*statuses, __main__.main(["ship", "tiny", second]))
"""


def tensors_of(path):
    with safetensors.safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def write_sums(folder):
    """SHA256SUMS of a folder's models, by another way."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.glob("*.saf*"))
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


@pytest.fixture
def folder(tmp_path):
    """Two models in half precision with their checksums."""
    for fold in (0, 1):
        own = write_model(tmp_path / "own" / f"fold{fold}-seed0.safetensors", fold=fold)
        shipping.write_half(own, tmp_path / "weights" / own.name)
    return write_sums(tmp_path / "weights")


def test_parameters_are_rounded_to_half_precision_and_used_in_float32_with_all_metadata(tmp_path):
    own, half = write_model(tmp_path / "own.safetensors"), tmp_path / "half.safetensors"
    shipping.write_half(own, half)
    stored, before = tensors_of(half), tensors_of(own)
    (network, about), (_, described) = models.load_described(half), models.load_described(own)
    parameters = {name for name, _ in network.named_parameters()}
    for name, tensor in stored.items():
        rounded = before[name].half() if name in parameters else before[name]
        assert tensor.dtype == rounded.dtype
        assert torch.equal(tensor, rounded)
        assert network.state_dict()[name].dtype == before[name].dtype
    assert len({tensor.dtype for tensor in stored.values()}) == 3  # float16; running means float32; counts int64
    assert {**about, "checksum": ""} == {**described, "checksum": "", "stored_precision": "float16"}
    assert about["checksum"] != described["checksum"]


def test_a_value_beyond_half_precision_is_refused_and_named(tmp_path):
    own = write_model(tmp_path / "own.safetensors")
    network, about = models.load_described(own)
    state = network.state_dict()
    state["head.bias"][0] = 1e5
    kept = {key: value for key, value in about.items() if key not in ("model", "arguments", "checksum")}
    models.save(own, about["model"], about["arguments"], state, kept)
    with pytest.raises(ValueError, match=r"own\.safetensors: head\.bias has values beyond 65504, which half precision"):
        shipping.write_half(own, tmp_path / "half.safetensors")
    assert not (tmp_path / "half.safetensors").exists()


def test_a_folder_answers_as_an_ensemble_and_each_of_its_files_alone(folder):
    image = head_image()
    both = prediction.predict(prediction.load(folder, "cpu"), image).maps["head"]
    each = [
        prediction.predict(prediction.load(path, "cpu"), image).maps["head"] for path in sorted(folder.glob("*.saf*"))
    ]
    assert len(each) == 2
    assert np.array_equal(both, (each[0] + each[1]) / np.float32(2))


def test_a_model_that_is_missing_added_or_changed_is_named_by_predict(folder, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    image_files.Image.fromarray(head_image()).save(tmp_path / "in" / "a.png")
    content = (folder / RUN).read_bytes()
    (folder / RUN).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert predict(folder, tmp_path / "in", tmp_path / "out") == 2
    assert (
        f"{folder / RUN}: changed (SHA256SUMS of the folder differs); copy the whole folder" in capsys.readouterr().err
    )
    assert predict(folder / RUN, tmp_path / "in", tmp_path / "out") == 2
    assert f"{folder / RUN}: weights or metadata have changed since the file" in capsys.readouterr().err
    (folder / RUN).rename(folder / "more.safetensors")
    with pytest.raises(ValueError, match=r"fold0-seed0\.safetensors: missing \(SHA256SUMS of the folder differs\)"):
        ensemble.load(folder, "cpu")
    (folder / RUN).write_bytes(content)
    with pytest.raises(ValueError, match=r"more\.safetensors: not listed \(SHA256SUMS"):
        ensemble.load(folder, "cpu")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_a_newer_version_is_refused(folder):
    rewritten(folder / RUN, format=models.FORMAT + 1)
    with pytest.raises(ValueError, match=r"fold0-seed0\.safetensors: written by a newer version of this project"):
        ensemble.load(write_sums(folder), "cpu")


def test_a_line_that_is_no_checksum_is_named(folder):
    with (folder / "SHA256SUMS").open("a") as file:
        file.write("abc  fold2-seed0.safetensors\n")
    with pytest.raises(
        ValueError, match=r"SHA256SUMS, line 3: 'abc  fold2.*'; expected a SHA-256, two blanks and a file"
    ):
        ensemble.load(folder, "cpu")


@pytest.mark.parametrize(
    ("study", "licence"),
    [
        ("lgg_quick", "LGG, brain MRI of lower-grade glioma (kaggle_3m): CC BY-NC-SA 4.0"),
        ("hc18_landmarks_quick", "Multicentre Fetal Biometry (Di Vece et al.): CC BY-NC-SA 4.0"),
        ("busi_quick", "BUSI, breast ultrasound images: no licence stated, to be cited"),
    ],
)
def test_weights_of_data_whose_licence_forbids_it_are_not_written(tmp_path, capsys, study, licence):
    assert __main__.main(["ship", study, str(tmp_path / "new")]) == 2
    expected = f"({licence}; expected CC BY 4.0 or made by this project); they stay in "
    assert f"study {study}: its weights may not be passed on {expected}" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_unfinished_study_and_no_folder_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    assert __main__.main(["ship", "demo", str(tmp_path / "new")]) == 2
    expected = (
        "study demo has not run to its end; run 'make study STUDY=demo' first:\n  01_data_verification: not comple"
    )
    assert capsys.readouterr().err.startswith(expected)
    assert __main__.main(["ship", "demo", " "]) == 2
    assert capsys.readouterr().err == "no folder is given; expected make ship STUDY=<name> OUT=<folder>\n"
    assert not (tmp_path / "new").exists()


def test_a_folder_that_ship_did_not_write_is_never_overwritten(folder, tmp_path):
    shipping.require_own(folder)
    shipping.require_own(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    shipping.require_own(tmp_path / "empty")
    (folder / "notes").mkdir()
    (folder / "notes" / "card.md").write_text("mine")
    found = r"weights: 1 files are not as ship wrote them, such as notes/card\.md; expected a new folder, or one that"
    with pytest.raises(ValueError, match=found):
        shipping.require_own(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file: a file; expected a folder, new or written by ship"):
        shipping.require_own(tmp_path / "file")


def test_differences_of_typed_values():
    rows = [
        ("a", "hc_mm", 100.0, 101.0, 101.5),
        ("b", "hc_mm", 200.0, 198.0, 198.0),
        ("c", "hc_mm", 50.0, np.nan, 51.0),
    ]
    rows += [("a", "dice of head", np.nan, 0.9, 0.9002), ("b", "dice of head", np.nan, 0.8, 0.7999)]
    table = pd.DataFrame(
        [(case, 0, 0, *rest) for case, *rest in rows], columns=["case", "fold", "seed", *shipping.COLUMNS[3:]]
    )
    assert shipping.differences(table).to_dict("records") == [
        {"measure": "HC", "n": 2, "measured_by_one": 1, "study": "1.500 mm", "shipped": "1.750 mm"}
        | {"largest_difference": "0.5 mm"},
        {"measure": "Dice of head", "n": 2, "measured_by_one": 0, "study": "0.8500", "shipped": "0.8500"}
        | {"largest_difference": "0.0002"},
    ]


@pytest.fixture(scope="module")
def shipped(tiny_project, tmp_path_factory):
    """The finished study `tiny` and two folders in which its models were written."""
    first, second = (tmp_path_factory.mktemp("weights") / name for name in ("first", "second"))
    done = python(tiny_project, "-c", TWICE, str(first), str(second))
    assert done.stdout.splitlines()[-1] == "0 0 0 2", done.stdout + done.stderr
    assert (
        f"{second}: 1 files are not as ship wrote them, such as mine.txt; expected a new folder, or one" in done.stderr
    )
    return tiny_project / "reports" / "tiny", first, second


def test_a_finished_study_becomes_a_folder_with_the_same_bytes_each_time(shipped):
    study, first, second = shipped
    (second / "mine.txt").unlink()
    names = ["LICENCE.txt", "SHA256SUMS", "card.md", RUN, "parity.csv"]
    assert sorted(path.name for path in first.iterdir()) == sorted(path.name for path in second.iterdir()) == names
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    listed = dict(reversed(line.split("  ")) for line in (first / "SHA256SUMS").read_text().splitlines())
    now = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in first.iterdir()}
    assert listed == {name: value for name, value in now.items() if name != "SHA256SUMS"}
    own = study / "05_evaluation" / "models" / RUN
    assert (first / RUN).stat().st_size < 0.55 * own.stat().st_size
    assert not list(first.parent.glob(".*"))


def test_the_card_is_in_the_file_too_with_the_licence_and_the_largest_difference(shipped):
    _, folder, _ = shipped
    card, table = (folder / "card.md").read_text(encoding="utf-8"), files.read_csv(folder / "parity.csv", ["study"])
    with safetensors.safe_open(folder / RUN, "pt") as file:
        assert card.startswith(json.loads(file.metadata()["network"])["card"] + "\n## Files\n")
    assert "- **Licence of the weights:** MIT, as this project." in card
    assert "Licence of the weights: MIT, as this project." in (folder / "LICENCE.txt").read_text(encoding="utf-8")
    assert model_card.NOT_FOR_PATIENTS in (folder / "LICENCE.txt").read_text(encoding="utf-8")
    dice = table[table["measure"] == "dice of parenchyma"]
    largest = (dice["shipped"] - dice["study"]).abs().max()
    assert f"| {dice['study'].mean():.4f} | {dice['shipped'].mean():.4f} | {largest:.2g} |" in card
    assert f"| {RUN} | " in card


def test_parity_compares_every_test_case_with_the_tables_of_the_study(shipped):
    study, folder, _ = shipped
    table = files.read_csv(folder / "parity.csv", shipping.COLUMNS)
    dice = files.read_csv(study / "05_evaluation" / "cases.csv", ["dice"]).query("stage == 'post' and `class` == 'csp'")
    mine = table.query("measure == 'dice of csp'").set_index("case")
    assert mine["study"].to_dict() == pytest.approx(dict(zip(dice["case"], dice["dice"])), abs=0, nan_ok=True)
    heads = files.read_csv(study / "06_biometry" / "measurements.csv", ["predicted_mm"])
    heads = heads.query("stage == 'post' and route == 'ellipse' and quantity == 'hc'").set_index("case")
    hc = table.query("measure == 'hc_mm'").set_index("case")
    assert hc["study"].to_dict() == pytest.approx(heads["predicted_mm"].to_dict(), abs=0, nan_ok=True)
    assert hc["reference_mm"].to_dict() == pytest.approx(heads["reference_mm"].to_dict(), abs=0)
    assert len(hc) == dice["case"].nunique() > 1


def test_the_folder_predicts_what_its_record_says(shipped, tiny_project):
    study, folder, _ = shipped
    recorded = files.read_csv(folder / "parity.csv", shipping.COLUMNS).query("measure == 'hc_mm'").set_index("case")
    manifest = files.read_csv(study / "01_data_verification" / "cases.csv", ["case"]).set_index("case", drop=False)
    model = prediction.load(folder, "cpu")
    for name in recorded.index[:2]:
        row = manifest.loc[name].to_dict()
        answer = prediction.predict(model, image_files.read_grey(tiny_project / row["image"]), cases.spacing_mm(row))
        (hc,) = [each["predicted_mm"] for each in prediction.measurements(model, answer) if each["quantity"] == "hc"]
        assert hc == pytest.approx(recorded.loc[name, "shipped"], abs=0.01, nan_ok=True)


@pytest.fixture(scope="module", params=["tiny_points", "tiny_volumes"])
def other_kind(request, kinds_project, tmp_path_factory):
    """A study of landmarks or of volumes, the folder in which its models were written, and its record of parity."""
    folder = tmp_path_factory.mktemp(request.param) / "weights"
    done = python(kinds_project, "-m", "lib", "ship", request.param, str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return kinds_project / "reports" / request.param, folder, files.read_csv(folder / "parity.csv", shipping.COLUMNS)


def test_models_of_landmarks_and_volumes_are_shipped_with_every_test_case_compared(other_kind):
    study, folder, parity = other_kind
    listed = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert listed.keys() == {"LICENCE.txt", "card.md", RUN, "parity.csv"}
    dtypes = {tensor.dtype for name, tensor in tensors_of(folder / RUN).items() if name.endswith("weight")}
    assert torch.float16 in dtypes
    assert "Licence of the weights: MIT, as this project." in (folder / "LICENCE.txt").read_text(encoding="utf-8")
    folds = files.read_csv(study / "01_data_verification" / "folds.csv", ["case", "fold"])
    for _, rows in parity.groupby("measure"):
        assert set(rows["case"]) == set(folds.loc[folds["fold"] == 0, "case"])
    measures = {"hc_mm", "bpd_mm", "ofd_mm"} if study.name == "tiny_points" else {"dice of lesion"}
    assert set(parity["measure"]) == measures


def test_shipped_landmarks_and_volumes_predict_what_their_record_says(other_kind, kinds_project, tmp_path):
    study, folder, parity = other_kind
    manifest = files.read_csv(study / "01_data_verification" / "cases.csv", ["case"]).set_index("case", drop=False)
    name = parity["case"].iloc[0]
    row, image = manifest.loc[name], kinds_project / manifest.loc[name, "image"]
    recorded = parity[parity["case"] == name].set_index("measure")["shipped"]
    size = ("--pixel-size", repr(float(row["spacing_row_mm"]))) if study.name == "tiny_points" else ()
    assert predict(folder, image, tmp_path / "out", *size) == 0
    if study.name == "tiny_points":
        measured = files.read_csv(tmp_path / "out" / "measurements.csv", ["predicted_mm"]).set_index("quantity")
        for quantity in ("hc", "bpd", "ofd"):
            found = measured.loc[quantity, "predicted_mm"]
            assert found == pytest.approx(recorded[f"{quantity}_mm"], abs=0.01, nan_ok=True)
        return
    slices = sorted(image.glob("*_mask.tif"))
    predicted = [mask_files.read(tmp_path / "out" / "masks" / name / f"{path.stem}.png") > 0 for path in slices]
    reference = [image_files.read_pixels(path) > 0 for path in slices]
    both, total = np.sum(np.logical_and(predicted, reference)), np.sum(predicted) + np.sum(reference)
    assert 2 * both / total == pytest.approx(recorded["dice of lesion"], abs=1e-3)
