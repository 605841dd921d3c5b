import itertools
import re
import typing
from dataclasses import make_dataclass
from typing import get_args

import pytest
import torch
import yaml

from lib import datasets, models
from lib.study import files, param_faults, param_rules, params, plain_yaml
from tests import builders

OF_EVERY_STUDY = {"study", "title", "compare_with"}  # keys that differ between any two studies
SAME_CASES = ("dataset", "groups", "exclude", "fold_count", "split_seed", "folds")  # keys that decide the test cases
# Keys of a study of regions alone, and of one of landmarks alone.
REGIONS_OR_POINTS = (
    "threshold_candidates postprocessing cross_entropy_weight focal_weight dice_weight cross_entropy_class_weights "
    "label_smoothing dice_class_weights selection_metric selection_class_weights oversample_classes nsd_tolerance_mm "
    "landmarks heatmap_per heatmap_sigma heatmap_sigma_unit"
)
# Two studies and the keys in which they differ or that only one uses, so that a comparison changes nothing else.
DIFFER = {
    ("hc18_quick", "hc18_unet"): "folds seeds epochs learning_rate workers base_channels image_size fold_count",
    ("hc18_crossval", "hc18_quick"): "folds batch_size learning_rate image_size fold_count epochs validation_subjects",
    ("hc18_segnet_quick", "hc18_segnet"): (
        "folds epochs learning_rate plateau_factor plateau_patience early_stopping_patience workers base_channels "
        "depth image_size fold_count"
    ),
    ("phantom_hc18_segnet", "hc18_segnet_quick"): "dataset epochs plateau_patience image_size fold_count",
    ("hc18_landmarks_sharp", "hc18_landmarks_quick"): "heatmap_sigma",
    ("hc18_landmarks_plain", "hc18_landmarks_quick"): (
        "horizontal_flip affine_probability intensity_probability shift_fraction scale_fraction rotation_deg "
        "brightness_contrast"
    ),
    ("hc18_landmarks_attention", "hc18_landmarks_quick"): "model",
    ("hc18_ellipse_quick", "hc18_landmarks_quick"): f"{REGIONS_OR_POINTS} epochs batch_size",
    ("hc18_ellipse_quick", "hc18_quick"): "folds",
    ("hc18_ellipse", "hc18_landmarks"): REGIONS_OR_POINTS,
    ("hc18_ellipse", "hc18_unet"): "",
    ("hc18_landmarks_quick", "hc18_landmarks"): (
        "folds seeds epochs batch_size learning_rate workers base_channels image_size heatmap_sigma fold_count"
    ),
    ("phantom_hc18_landmarks", "hc18_landmarks_quick"): "dataset folds epochs image_size fold_count",
    ("lgg_quick", "lgg"): (
        "folds epochs optimizer learning_rate weight_decay schedule warm_up_fraction gradient_clip "
        "cross_entropy_weight cross_entropy_class_weights label_smoothing oversample_classes oversample_factor "
        "area_weight_floor shift_fraction scale_fraction brightness_contrast intensity_probability tensorboard_every "
        "tensorboard_images workers base_channels image_size fold_count validation_subjects"
    ),
    ("phantom_lgg", "lgg_quick"): "dataset folds epochs tensorboard_every depth image_size fold_count nsd_tolerance_px",
    ("fetal_tumour_quick", "fetal_tumour"): "folds epochs learning_rate schedule workers base_channels image_size",
    ("phantom_fetal_tumour", "fetal_tumour_quick"): (
        "dataset head_classes epochs learning_rate normalisation image_size max_axis_ratio hc_range_mm "
        "equivalence_margin_percent"
    ),
    ("busi_quick", "busi"): "seeds epochs batch_size learning_rate workers base_channels image_size",
    ("phantom_brain_structures", "brain_structures"): (
        "dataset folds epochs learning_rate schedule warm_up_fraction workers base_channels image_size plateau_factor "
        "plateau_patience"
    ),
    ("phantom_brain_structures_even", "phantom_brain_structures"): "oversample_classes oversample_factor",
    ("demo", "phantom_brain_structures"): (
        "dataset postprocessing epochs batch_size optimizer weight_decay cross_entropy_weight focal_weight "
        "dice_weight cross_entropy_class_weights label_smoothing selection_metric oversample_classes "
        "affine_probability shift_fraction brightness_contrast clahe_probability model groups closing_pixels "
        "dilation_pixels minimum_area_mm2 parts_kept focal_gamma oversample_factor "
        "tensorboard_every tensorboard_images"
    ),
}
each_study = pytest.mark.parametrize("path", sorted((files.ROOT / "params").glob("*.yaml")), ids=lambda path: path.stem)
ONE_EACH, FOREGROUND = "must be one weight per class, not all 0", "must be names of foreground classes"
COLOURS = "must be [] or one colour of three numbers per class, all different"
DEPTHS = "must be 5 with resnet_unet, at most 5 with segnet and segnet_skips"
ONE_PIXEL = param_rules.ONE_VALUE


def write_study(folder, text=None, name="tiny", **changes):
    path = folder / f"{name}.yaml"
    path.write_text(text if text is not None else yaml.safe_dump(builders.values(study=name) | changes))
    return path


def faults_of(**changes):
    return param_faults.find_faults(builders.values(**changes), params.Study)


def fault_of(**changes):
    (fault,) = faults_of(**changes)
    return fault


@each_study
def test_a_study_file_is_valid_and_has_exactly_the_keys_that_its_options_and_data_set_use(path):
    study = params.read_study(path)
    keys = re.findall(r"^(\w+):", path.read_text(), flags=re.MULTILINE)
    assert sorted(keys) == sorted(params.values_of(study))
    assert list(datasets.of(study).classes) == study.classes
    assert len(keys) <= 71


@each_study
def test_compared_studies_test_the_same_cases_and_a_hypothesis_comments_every_changed_key(path):
    study, text = params.read_study(path), path.read_text(encoding="utf-8")
    for other in (params.read_study(files.study_file(name)) for name in study.compare_with):
        assert [getattr(study, key) for key in SAME_CASES] == [getattr(other, key) for key in SAME_CASES]
        mine, its = params.values_of(study), params.values_of(other)
        changed = {key for key in mine.keys() & its.keys() if mine[key] != its[key]} - OF_EVERY_STUDY
        if text.startswith("# Hypothesis: "):
            assert changed
            assert [key for key in changed if not re.search(rf"(?m)^{key}: .*  # \S", text)] == []


def test_no_two_studies_compare_each_other_in_a_circle():
    pending = {p.stem: set(params.read_study(p).compare_with) for p in (files.ROOT / "params").glob("*.yaml")}
    while done := {name for name, others in pending.items() if not others & pending.keys()}:
        pending = {name: others for name, others in pending.items() if name not in done}
    assert pending == {}


@pytest.mark.parametrize(("one", "other"), DIFFER, ids=str)
def test_two_studies_differ_in_these_keys_only(one, other):
    mine, its = (params.values_of(params.read_study(files.study_file(name))) for name in (one, other))
    differ = {key for key in mine | its if mine.get(key, ...) != its.get(key, ...)}
    assert differ - OF_EVERY_STUDY == set(DIFFER[one, other].split())


def test_every_study_file_and_every_comparison_is_in_the_table_of_differences():
    studies = {path.stem: params.read_study(path) for path in (files.ROOT / "params").glob("*.yaml")}
    ours = {name for name, study in studies.items() if not study.dataset.startswith("own_")}  # not those of a user
    assert {name for pair in DIFFER for name in pair} == ours
    assert {(name, other) for name, study in studies.items() for other in study.compare_with} <= set(DIFFER)


def test_every_key_has_a_description_and_belongs_to_one_notebook_or_to_all_and_optional_ones_to_an_option():
    shared, models_of_steps = set(params.SharedParams.model_fields), params.STEPS.values()
    of_model_files = params.EvaluationParams, params.BiometryParams  # 05 writes these keys of 06 into them
    for one, other in itertools.combinations(models_of_steps, 2):
        both = set(params.HeadKeys.model_fields) if {one, other} == {*of_model_files} else set()
        assert set(one.model_fields) & set(other.model_fields) - {"case_limit"} == shared | both, (one, other)
    assert not {*params.RUN, *params.MANUAL} & params.Study.model_fields.keys()
    assert set().union(*(model.model_fields for model in models_of_steps)) == set(params.AnyKey.model_fields)
    options = {*param_rules.OPTIONS, *param_rules.OF_DATASET}
    for key, described in params.AnyKey.model_fields.items():
        is_optional = param_faults.option_of(params.AnyKey, key) in options or key in params.MANUAL
        assert described.is_required() != is_optional, key
        assert described.description, key


def test_a_step_gets_only_its_own_keys_and_they_are_frozen():
    chosen = params.step_params(params.read_study(files.study_file("hc18_quick")), "06_biometry")
    assert chosen.hc_range_mm == [40.0, 400.0]
    assert not hasattr(chosen, "epochs")
    with pytest.raises(ValueError, match="frozen"):
        chosen.hc_range_mm = [0.0, 1.0]


def test_a_dataclass_is_filled_from_the_keys_of_the_same_names():
    own = params.pick(builders.training_params(seed=3), make_dataclass("Own", [("seed", int), ("batch_size", int)]))
    assert (own.seed, own.batch_size) == (3, 4)


# Changes that select each option, and changes of the quick study that deselect it.
CHOSEN = {
    "landmarks other than none": {"landmarks": "multicentre"},
    "model = resnet_unet": {"model": "resnet_unet", "depth": 5},
    **{"schedule = plateau": {"schedule": "plateau"}, "focal_weight above 0": {"focal_weight": 1.0}},
    "oversample_classes other than []": {"oversample_classes": ["head"]},
    "tensorboard_every other than null": {"tensorboard_every": 1},
    **{
        f"{step} in postprocessing": {"postprocessing": [step]}
        for step in ("close_outer", "inside_outer", "minimum_area", "largest_parts", "confident_parts")
    },
}
OTHERWISE = {
    "landmarks = none": {"landmarks": "multicentre"},
    "models other than resnet_unet": {"model": "resnet_unet", "depth": 5},
    "schedule = one_cycle": {"schedule": "cosine"},
    "cross_entropy_weight above 0": {"cross_entropy_weight": 0.0},
    "cross_entropy_weight or focal_weight above 0": {"cross_entropy_weight": 0.0},
    **{"dice_weight above 0": {"dice_weight": 0.0}, "affine_probability above 0": {"affine_probability": 0.0}},
    "intensity_probability above 0": {"intensity_probability": 0.0},
    "two classes and landmarks = none": {"landmarks": "multicentre"},
    "head_classes other than []": {"head_classes": []},
}


@pytest.mark.parametrize("key", sorted(params.Study.model_fields))
def test_a_missing_key_is_reported_with_the_option_that_requires_it_and_an_unused_one_as_not_used(key):
    option = param_faults.option_of(params.Study, key)
    if option in param_rules.OF_DATASET:  # see tests/datasets/test_registry.py
        return
    needed = builders.values(**CHOSEN.get(option, {}))
    without = {name: value for name, value in needed.items() if name != key}
    where = f"missing; required with {option}: " if option else "missing; "
    expected = f"{key}   {where}{params.Study.model_fields[key].description}"
    assert expected in param_faults.find_faults(without, params.Study)
    assert param_faults.find_faults(needed, params.Study) == []
    assert param_faults.find_faults(without, params.Study, partial=True) == []
    if option:
        other = builders.values(**OTHERWISE.get(option, {}))
        assert key not in other
        assert param_faults.find_faults(other, params.Study) == []
        (fault,) = param_faults.find_faults(other | {key: needed[key]}, params.Study)
        assert fault == f"{key} = {needed[key]!r}   not used; requires {option}"


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"lerning_rate": 0.001}, "lerning_rate = 0.001   no such key; nearest: learning_rate"),
        ({"zzz": 1}, "zzz = 1   no such key"),
        (yaml.safe_load("learning_rate: 1e-4"), "write 0.0001 without quotes, with a decimal point (1.0e-4, not 1e-4)"),
        ({"dice_class_weights": ["1e-4", 1.0]}, "write 0.0001 without quotes, with a decimal point (1.0e-4, not 1e-4)"),
        ({"gradient_clip": "0.5"}, "write 0.5 without quotes, with a decimal point (1.0e-4, not 1e-4)"),
        ({"epochs": "1e3"}, "write 1000 without quotes"),
        ({"schedule": "cosin"}, "; nearest: cosine"),
        ({"postprocessing": ["fill_hole"]}, "; nearest: fill_holes"),
    ],
)
def test_an_error_suggests_the_nearest_name_or_how_to_write_a_number(changes, hint):
    assert fault_of(**changes).endswith(hint)


INFINITE = float("inf")
WRONG = {
    **{"epochs": [3.0, True, 0, 5001, None], "fold_count": [2]},
    "split_seed": [-1, 2**63],  # torch accepts 64 bits, tables store int64
    **{"seeds": [[0, 2**63], []], "learning_rate": [0.0, 1.01, float("nan")], "gradient_clip": [0.0, INFINITE]},
    **{"cross_entropy_weight": [INFINITE], "horizontal_flip": [1.5], "plateau_factor": [1.0]},
    **{"early_stopping_patience": [0], "flip_average": [1, "yes"]},
    "image_size": [[128], [128, 192, 3], [16, 192], 128],
    **{"classes": [["background"], ["background", "Head"]], "exclude": ["010_HC", [10]], "title": ["", 5]},
    **{"hc_range_mm": [[40.0, INFINITE]], "near_duplicate_correlation": [0.29, 1.01]},
    **{"threshold_candidates": [[0.5, 1.0]], "postprocessing": [["watershed"]]},
    **{"palette": [[[0, 0, 0], [256, 0, 0]], [[0, 0, 0], [255.0, 0, 0]], "red"], "groups": ["benign", [1]]},
    **{"model": ["unet++"], "depth": [7], "encoder": ["resnet50"], "encoder_weights": ["ImageNet"]},
    **{"focal_weight": [-0.1], "focal_gamma": [10.5], "label_smoothing": [1.0]},
    **{"cross_entropy_class_weights": [[1.0, -1.0]], "selection_metric": ["f1"]},
    **{"intensity_probability": [1.1], "clahe_probability": [-0.1], "closing_pixels": [0]},
    **{"dilation_pixels": [5.0], "minimum_area_mm2": [-1.0], "parts_kept": [0], "minimum_probability": [1.5]},
    **{"minimum_margin": [-0.1], "head_classes": [["Head"]], "landmarks": ["hc18", None]},
    **{"validation_subjects": [0, 2.0], "end_slices_dropped": [-1, 11], "crop_level": [1.0, -0.1]},
    **{"intensity_percentiles": [[10.0], [10.0, 101.0]], "heatmap_sigma": [0.0, 51.0]},
    **{"heatmap_sigma_unit": ["px"], "heatmap_per": ["end"], "area_weight_floor": [1.1], "compile": ["yes"]},
    **{"tensorboard_every": [0], "tensorboard_images": [0, 65], "compare_with": ["hc18_quick", ["HC18"]]},
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in WRONG for value in WRONG[key]])
def test_a_value_of_wrong_type_or_range_is_one_error_with_the_description_of_the_key(key, value):
    fault = fault_of(**{key: value})
    assert fault.startswith(f"{key} = {value!r}   not allowed; {params.Study.model_fields[key].description}")


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"classes": ["head", "background"], "head_classes": ["background"]}, "the first class must be background"),
        ({"classes": ["background", "head", "head"]}, "class names must be unique"),
        ({"image_size": [100, 192]}, "multiples of 16; nearest: [96, 192]"),
        ({"image_size": [32, 64], "depth": 6}, "multiples of 64; nearest: [64, 64]"),
        ({"dice_class_weights": [1.0]}, ONE_EACH),
        ({"dice_class_weights": [0.0, 0.0]}, ONE_EACH),
        ({"selection_class_weights": [0.0, 0.0]}, ONE_EACH),
        ({"cross_entropy_class_weights": [1.0, 1.0, 1.0]}, ONE_EACH),
        ({"cross_entropy_class_weights": [0.0, 0.0]}, ONE_EACH),
        (
            {"cross_entropy_weight": 0.0, "focal_weight": 0.0, "dice_weight": 0.0},
            "focal_weight and dice_weight must not all be 0",
        ),
        ({"palette": [[0, 0, 0]]}, COLOURS),
        ({"palette": [[0, 0, 0], [255, 0]]}, COLOURS),
        ({"palette": [[9, 9, 9], [9, 9, 9]]}, COLOURS),
        ({"groups": ["benign", "malignant", "benign"]}, "groups must be unique"),
        ({"model": "resnet_unet", "depth": 4}, DEPTHS),
        ({"model": "segnet", "depth": 6}, DEPTHS),
        ({"model": "segnet_skips", "depth": 6}, DEPTHS),
        ({"processes": 5, "batch_size": 4}, "must be at most batch_size, because each takes a share of a batch"),
        ({"batch_size": 1, "image_size": [32, 32], "depth": 5}, ONE_PIXEL),
        ({"batch_size": 1, "image_size": [32, 32], "model": "resnet_unet", "depth": 5}, ONE_PIXEL),
        ({"postprocessing": ["close_outer"], "closing_pixels": 4}, "must be odd, since an even kernel has no centre"),
        ({"postprocessing": ["inside_outer"], "dilation_pixels": 10}, "since an even kernel has no centre"),
        ({"oversample_classes": ["background"]}, FOREGROUND),
        ({"head_classes": ["heart"]}, FOREGROUND),
        ({"folds": [6]}, "must be different numbers from 0 to fold_count - 1"),
        ({"folds": [0, 0]}, "must be different numbers from 0 to fold_count - 1"),
        ({"seeds": [1, 1]}, "seeds must be unique"),
        ({"threshold_candidates": []}, params.Study.model_fields["threshold_candidates"].description),
        ({"hc_range_mm": [400.0, 40.0]}, "the smallest value must come first"),
        ({"intensity_percentiles": [99.0, 10.0]}, "the lower percentile must come first"),
        ({"intensity_percentiles": [10.0, 10.0]}, "the lower percentile must come first"),
        ({"compare_with": ["hc18_unet", "hc18_quick"]}, "must name other studies, each once"),
        ({"compare_with": ["hc18_unet", "hc18_unet"]}, "must name other studies, each once"),
    ],
    ids=str,
)
def test_a_broken_rule_between_keys_is_reported(changes, allowed):
    faults = faults_of(**changes)
    assert any(fault.endswith(allowed) for fault in faults), faults


@pytest.mark.parametrize(
    "changes",
    [
        {"hc_range_mm": [40, 400], "weight_decay": 0},  # whole numbers may stand for floats
        {"head_classes": []},
        {"palette": [[0, 0, 0], [255, 0, 0]]},
        {"groups": ["benign", "malignant"]},
        {"model": "resnet_unet", "depth": 5},
        {"model": "segnet", "depth": 5},
        {"model": "segnet_skips", "depth": 1},
        {"model": "attention_unet", "depth": 6},
        {"batch_size": 1, "image_size": [32, 64], "depth": 5},
        {"batch_size": 1, "image_size": [32, 32], "depth": 4},
        {"batch_size": 1, "image_size": [32, 32], "depth": 5, "normalisation": "none"},
        {"batch_size": 1, "image_size": [32, 32], "depth": 5, "model": "segnet"},
        {"split_seed": 2**63 - 1, "seeds": [0, 2**63 - 1]},
        {"cross_entropy_weight": 0.0, "focal_weight": 1.0, "dice_weight": 0.0},
        {"cross_entropy_class_weights": [0.0, 1.0]},
        {"postprocessing": ["fill_holes", "largest_component", "fill_holes"]},
        {"closing_pixels": 1, "dilation_pixels": 99, "postprocessing": ["close_outer", "inside_outer"]},
        {"landmarks": "multicentre", "heatmap_per": "point", "heatmap_sigma_unit": "mm"},
        {"landmarks": "role_challenge", "model": "resnet_unet", "depth": 5, "encoder_weights": "imagenet"},
        {"validation_subjects": 1, "area_weight_floor": None, "tensorboard_every": None},
        {"end_slices_dropped": 0, "crop_level": 0.0, "intensity_percentiles": [0.0, 100.0]},
        {"area_weight_floor": 0.0, "tensorboard_every": 1, "tensorboard_images": 64, "compile": True},
        {"compare_with": ["hc18_unet", "hc18_segnet"], "validation_subjects": None},
    ],
    ids=str,
)
def test_values_that_the_rules_allow_pass(changes):
    assert faults_of(**changes) == []


def test_thresholds_with_four_classes_are_refused():
    demo = plain_yaml.read(files.study_file("demo"))
    (fault,) = param_faults.find_faults(demo | {"threshold_candidates": [0.5]}, params.Study)
    assert fault.startswith("threshold_candidates = [0.5]   not used; requires two classes")


@pytest.mark.parametrize("key", ["cross_entropy_weight", "focal_weight", "postprocessing", "oversample_classes"])
def test_a_key_that_decides_options_is_missing_if_null(key):
    (fault,) = faults_of(**{key: None})
    assert fault.startswith(f"{key}   missing; required with landmarks = none: ")


def test_a_rule_is_not_applied_to_a_value_that_is_wrong_in_itself():
    assert len(faults_of(image_size="large", depth=4)) == 1


@pytest.mark.parametrize("model", models.MODELS)
@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_a_network_ends_in_one_pixel_where_torch_refuses_a_single_image_of_that_size(model, normalisation):
    own = {"base_channels": 4, "depth": 5, "normalisation": normalisation}
    given = {"encoder": "resnet18"} if model == "resnet_unet" else own
    network = models.build(model, {"in_channels": 1, "out_channels": 1} | given).train()
    for size in ([32, 32], [32, 64]):
        try:
            network(torch.zeros(1, 1, *size))
            refused = False
        except ValueError as error:
            refused = "more than 1 value per channel" in str(error)
        assert refused == param_rules.ends_in_one_pixel(size, 5, model, normalisation)


def test_all_errors_of_a_file_are_reported_at_once_with_its_name(tmp_path):
    path = write_study(tmp_path, lerning_rate=0.001, image_size=[250, 192], epochs=0, seeds=[2, 2])
    with pytest.raises(ValueError, match="4 errors") as caught:
        params.read_study(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 4 errors"
    assert sorted(line.split()[0] for line in lines[1:]) == ["epochs", "image_size", "lerning_rate", "seeds"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (yaml.safe_dump(builders.values(study="other")), "1 error\n  study = 'other'   .* expected 'tiny'"),
        (yaml.safe_dump(builders.values(study="tiny")) + "epochs: 7\n", "cannot be read .*duplicate keys: epochs"),
        ("", "contains NoneType; expected one 'key: value' per line"),
        ("- a\n- b\n", "contains list; expected one 'key: value' per line"),
        ("epochs: [1, 2\n", "cannot be read as YAML"),
        ("epochs:\t5\n\tdepth: 4\n", "cannot be read as YAML"),
        ("true: 5\n2: 2\n", r"keys \[True, 2\]; expected names"),
        ("device: !!python/object/apply:os.getcwd []\n", "cannot be read as YAML"),
        ("title: Größe", "cannot be read as YAML"),  # latin-1
    ],
)
def test_a_file_that_is_not_flat_yaml_or_has_another_study_name_is_refused(tmp_path, text, found):
    path = tmp_path / "tiny.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"tiny\.yaml: {found}"):
        params.read_study(path)


BOMB = "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in itertools.pairwise("abcdefghi"))
YAML_ATTACKS = {
    f"a: &a [x]\n{BOMB}": "line 2, a: &a is a YAML alias or anchor; write the value itself",
    "a: b\nc: [*a, *a]": "line 3, c: *a is a YAML alias or anchor; write the value itself",
    "a: b\n<<: {c: 1}": "line 3, <<: <<   YAML reads this as a sign with a special meaning; write it in quotes",
    "epochs: 1:30": "line 2, epochs: 1:30   YAML reads this as 90; write decimal digits, or a text in quotes",
    "seeds: [0, 190:20:30]": "190:20:30   YAML reads this as 685230; write decimal digits",
    "epochs: 0x_": "line 2, epochs: 0x_   YAML reads this as a number; write decimal digits, or a text in quotes",
    "seeds:\n- 1\n- 010": "line 4, seeds: 010   YAML reads this as 8; write decimal digits, or a text in quotes",
    **{
        f"epochs: {text}": f"line 2, epochs: {text}   YAML reads this as 31"
        for text in ("0x1F", "037", "0b11111", "3_1")
    },
    **{
        f"title: {word}": "reads this as true; write true or false, or a text in quotes"
        for word in ("yes", "On", "TRUE")
    },
    **{f"exclude: [{word}]": "reads this as false; write true or false" for word in ("no", "off", "False")},
    "exclude: [2026-01-01]": "line 2, exclude: 2026-01-01   YAML reads this as a date; write it in quotes",
    "exclude: [NULL]": "line 2, exclude: NULL   YAML reads this as no value; write null, or a text in quotes",
    **{f"hc_range_mm: [{text}, 1.0]": f"{text}   YAML reads this as" for text in (".inf", ".NaN", "1:30.5", "1_0.0")},
    "learning_rate: 1.0e+400": "line 2, learning_rate: 1.0e+400   too large for a number",
    f"split_seed: {10**60}": f"line 2, split_seed: {10**60}   a whole number of 61 digits; expected at most 2**63 - 1",
    f"seeds: [{'9' * 5000}]": f"line 2, seeds: {'9' * 80}… (5000 characters)   a whole number of 5000 digits; expected",
    f"split_seed: {2**63}": "a whole number of 19 digits; expected at most 2**63 - 1",
    f"exclude: {'[' * 5000}": "line 2, exclude: lists and mappings are nested more than 10 deep",
    f"exclude: {'{a: ' * 5000}": "line 2, exclude: lists and mappings are nested more than 10 deep",
    f"exclude:\n{'- ' * 5000}": "line 3, exclude: lists and mappings are nested more than 10 deep",
    "title: !!binary aGk=": "line 2, title: tag:yaml.org,2002:binary is a YAML type; write the value alone",
    "".join(f"key{index}: 1\n" for index in range(600)): "line 501, key499: more than 500 keys",
    f"title: {'x' * 100_000}": "100019 bytes; expected at most 100000",
}


@pytest.mark.parametrize(("text", "message"), YAML_ATTACKS.items(), ids=range(len(YAML_ATTACKS)))
def test_yaml_that_means_another_value_or_grows_is_refused_with_line_and_key_before_it_is_read(tmp_path, text, message):
    path = write_study(tmp_path, f"study: tiny\n{text}")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        plain_yaml.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < len(str(path)) + 350


def test_plain_yaml_keeps_its_values_and_lists_ten_faults_at_most(tmp_path):
    plain = "[0, -1, +7, 1.0e-4, .5, 2., null, ~, true, false, '010', \"yes\", 0o17, 1e-4, 008, 漢 ü, a:b, .]"
    numbers, texts = [0, -1, 7, 1.0e-4, 0.5, 2.0], ["010", "yes", "0o17", "1e-4", "008", "漢 ü", "a:b", "."]
    read = plain_yaml.read(write_study(tmp_path, f"a: {plain}\nb:\n"))
    assert read == {"a": [*numbers, None, None, True, False, *texts], "b": None}
    with pytest.raises(ValueError, match="line 1, a: 010 ") as caught:
        plain_yaml.read(write_study(tmp_path, f"a: [{', '.join(['010'] * 5000)}]"))
    assert str(caught.value).count("010") == 10


def nest(annotation, value):
    """A value as a key of this type holds it: in no list, in one, or in lists of lists."""
    inner = next((each for each in get_args(annotation) if typing.get_origin(each) is list), annotation)
    return [nest(get_args(inner)[0], value)] if typing.get_origin(inner) is list else value


@pytest.mark.parametrize("key", sorted(params.AnyKey.model_fields))
def test_every_key_refuses_numbers_and_texts_beyond_its_bounds_in_one_short_line(key):
    annotation = params.AnyKey.model_fields[key].annotation
    for wrong in (10**30, -(10**30), 10**5000, 1e300, INFINITE, -INFINITE, float("nan"), "x" * 10**6, "9" * 5000):
        (fault,) = param_faults.find_faults({key: nest(annotation, wrong)}, params.AnyKey, partial=True)
        assert fault.startswith(f"{key} = ")
        assert "   not allowed; " in fault
        assert len(fault) < 400


def test_a_missing_study_is_reported_with_the_nearest_ones_quick_ones_first(tmp_path):
    with pytest.raises(ValueError, match=r"a\.yaml: no such study file$"):
        params.read_study(tmp_path / "a.yaml")
    write_study(tmp_path, name="hc18_quick")
    for name in ("hc18_unet", "hc18_segnet_quick", "hc18_ellipse", "demo"):
        (tmp_path / f"{name}.yaml").touch()
    for name, nearest in (
        ("hc18", "nearest: hc18_quick, hc18_segnet_quick, hc18_unet"),
        ("HC18_U", "nearest: hc18_unet"),
        ("hc18_quik", "nearest: hc18_quick"),
        ("holiday", "for example demo, hc18_quick, hc18_segnet_quick"),
    ):
        with pytest.raises(ValueError, match=rf"{name}\.yaml: no such study file; {nearest}(, |$)"):
            params.read_study(tmp_path / f"{name}.yaml")
