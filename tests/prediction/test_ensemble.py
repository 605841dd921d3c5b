import json

import numpy as np
import pytest
import safetensors.torch

from lib import models, prediction
from lib.models import trained_model
from lib.prediction import ensemble
from lib.study import files
from tests import builders
from tests.builders import one_thread  # noqa: F401
from tests.builders_predict import HC_MM, SHAPE, SPACING_MM, USE, head_image, transparent, write_model  # noqa: F401


def rewritten(path, **changes):
    """A weights file whose metadata were changed by hand."""
    with safetensors.safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["network"]) | changes
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path.write_bytes(safetensors.torch.save(weights, {"network": json.dumps(about)}))
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: rewritten(write_model(path), threshold=0.1),
            r"have changed since the file was written \(its checks",
        ),
        (
            lambda path: rewritten(write_model(path), format=2),
            r"a newer version of this project \(format 2; this one reads ",
        ),
        (
            lambda path: builders.write_weights(path, builders.of_images(*SHAPE)),
            "use reports/tiny/05_evaluation/models/",
        ),
        (
            lambda path: write_without(path, "head_classes"),
            "lack head_classes .*notebooks/05_evaluation.ipynb out.ipynb -f params/tiny.yaml' ",
        ),
        (
            lambda path: write_without(path, "hc_range_mm"),
            "lack hc_range_mm .*evaluates the study again without training",
        ),
        (lambda path: save_foreign(path), "the metadata name no network; expected weights saved by this project"),
        (lambda path: path.write_bytes(b"PK\3\4 a pickle"), "not a readable weights file"),
        (lambda path: path.with_name("nowhere"), "No such file"),
    ],
    ids=["tampered", "newer", "of 04", "older", "a part missing", "another project", "no weights", "missing"],
)
def test_a_file_that_cannot_be_used_is_refused_and_the_right_one_named(tmp_path, make, message):
    path = tmp_path / "fold0-seed0.safetensors"
    make(path)
    with pytest.raises(ValueError, match=message) as error:
        ensemble.load(path, "cpu")
    assert str(path) in str(error.value)


def test_several_models_flag_by_the_mean_of_their_limits_and_grey_values(tmp_path):
    chosen = [{"two regions": 0.1, "elongated": 1.5}, {"two regions": 0.3}]
    for place, limits in enumerate(chosen):
        values = {"limits": limits, "usual_greys": [10.0 * place] * 64}
        write_model(tmp_path / f"{place}.safetensors", fold=place, flags=values)
    loaded = ensemble.load(tmp_path, "cpu")
    assert loaded.limits == {"two regions": pytest.approx(0.2)}  # not every model knows the others
    assert loaded.usual_greys == [5.0] * 64


def test_changed_tensors_are_noticed_too(tmp_path):
    path = write_model(tmp_path / "a.safetensors")
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="weights or metadata have changed"):
        trained_model.load(path, False, "cpu")


def write_without(path, name):
    """A model without one entry of the metadata, with a valid checksum."""
    trained = builders.write_weights(path.with_suffix(".trained"), builders.of_images(*SHAPE))
    models.complete(trained, path, {key: value for key, value in USE.items() if key != name})


def save_foreign(path):
    safetensors.torch.save_file({"weight": builders.torch.zeros(2)}, path)


def test_a_study_is_named_by_its_name_and_its_runs_answer_together(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "study_folder", lambda name: tmp_path / name)
    folder = tmp_path / "mine" / "05_evaluation" / "models"
    for fold in (0, 1):
        write_model(folder / f"fold{fold}-seed0.safetensors", fold=fold, threshold=0.4 + 0.2 * fold)
    loaded = ensemble.load("mine", "cpu")
    assert loaded.names == ["fold0-seed0.safetensors", "fold1-seed0.safetensors"]
    assert loaded.threshold == pytest.approx(0.5)
    assert ensemble.load(folder, "cpu").names == loaded.names
    assert ensemble.load("mine", "cpu", flip_average=True).members[0].flip_average
    with pytest.raises(ValueError, match=r"demo/05_evaluation/models: no models; 'make demo' trains"):
        ensemble.load("demo", "cpu")
    with pytest.raises(ValueError, match="nothing_of_the_kind: no such model; expected a study's name, a file of its"):
        ensemble.load("nothing_of_the_kind", "cpu")


def calibrated(subjects, **errors):
    """Constants of the intervals of one model."""
    bounds = {"bpd": 0.04, "ofd": 0.03, "hc": 0.02} | errors
    return {"level": 0.9, "subjects": subjects, "images": 2 * subjects, "error_per_root": bounds}


def test_the_interval_of_an_ensemble_is_the_widest_of_its_members_and_none_if_one_has_none(tmp_path):
    write_model(tmp_path / "a.safetensors", intervals=calibrated(30, hc=0.02, ofd=0.05))
    write_model(tmp_path / "b.safetensors", intervals=calibrated(20, hc=0.03, bpd=None), fold=1)
    both = ensemble.load(tmp_path, "cpu").intervals
    assert both == calibrated(20, hc=0.03, ofd=0.05, bpd=None) | {"images": 40}
    assert ensemble.load(tmp_path / "a.safetensors", "cpu").intervals == calibrated(30, hc=0.02, ofd=0.05)


def test_predictions_with_the_other_averaging_than_those_of_the_calibration_have_no_interval(tmp_path):
    path = write_model(tmp_path / "a.safetensors", flip_average=False)
    none = dict.fromkeys(("bpd", "ofd", "hc"))
    assert ensemble.load(path, "cpu", flip_average=True).intervals["error_per_root"] == none
    assert (
        ensemble.load(path, "cpu", flip_average=False).intervals["error_per_root"] == USE["intervals"]["error_per_root"]
    )


def test_a_measurement_has_the_limits_of_its_models_and_a_head_without_a_pixel_size_has_none(tmp_path, transparent):  # noqa: F811
    model = prediction.load(write_model(tmp_path / "a.safetensors"), "cpu")
    answer = prediction.predict(model, head_image(), (SPACING_MM, SPACING_MM))
    for row in prediction.measurements(model, answer):
        bound = USE["intervals"]["error_per_root"][row["quantity"]]
        reach = bound * row["predicted_mm"] ** 0.5
        expected = [row["predicted_mm"] - reach, row["predicted_mm"] + reach]
        assert [row["low_mm"], row["high_mm"]] == pytest.approx(expected)
    unknown = prediction.measurements(model, prediction.predict(model, head_image()))
    assert np.isnan([[row["low_mm"], row["high_mm"]] for row in unknown]).all()
    nothing = prediction.measurements(model, prediction.predict(model, np.zeros(SHAPE, np.uint8), (0.5, 0.5)))
    assert np.isnan([[row["low_mm"], row["high_mm"]] for row in nothing]).all()


def test_models_that_were_evaluated_differently_are_no_ensemble(tmp_path):
    write_model(tmp_path / "a.safetensors")
    write_model(tmp_path / "b.safetensors", postprocessing=[])
    with pytest.raises(ValueError, match=r"b\.safetensors: postprocessing = \[\], but \[.*\] in a\.safetensors"):
        ensemble.load(tmp_path, "cpu")


def test_an_ensemble_predicts_the_mean_of_its_members_probabilities(tmp_path):
    own = {*USE, "format", "checksum"}
    for seed, name in enumerate("ab"):
        path = write_model(tmp_path / f"{name}.safetensors", (32, 32))
        network, about = models.load_described(path)
        state = {key: value + 0.01 * seed for key, value in network.state_dict().items()}
        trained = tmp_path / f"{name}.trained"
        models.save(trained, "unet", about["arguments"], state, {k: v for k, v in about.items() if k not in own})
        models.complete(trained, path, USE)
    image = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    both = prediction.predict(ensemble.load(tmp_path, "cpu"), image).maps["head"]
    each = [prediction.predict(ensemble.load(tmp_path / f"{n}.safetensors", "cpu"), image).maps["head"] for n in "ab"]
    assert np.abs(each[0] - each[1]).max() > 1e-4
    assert np.array_equal(both, (each[0] + each[1]) / np.float32(2))


def test_three_functions_on_arrays_answer_in_a_script(tmp_path, transparent):  # noqa: F811
    model = prediction.load(write_model(tmp_path / "a.safetensors"), "cpu")
    answer = prediction.predict(model, head_image(), (SPACING_MM, SPACING_MM))
    rows = {row["quantity"]: row["predicted_mm"] for row in prediction.measurements(model, answer)}
    assert rows["hc"] == pytest.approx(HC_MM, rel=0.002)
    with pytest.raises(ValueError, match="is not an image; expected"):
        prediction.predict(model, head_image().astype(float))
