import itertools
import re

import pytest
import yaml

from lib import datasets
from lib.study import files, params
from tests import builders

STUDIES = sorted((files.ROOT / "params").glob("*.yaml"))
NAMES = {"study", "title"}
SMALLER = NAMES | {"image_size", "base_channels", "epochs", "learning_rate", "workers"}  # for two cores
LOSS = {"cross_entropy_weight", "focal_weight", "dice_weight", "cross_entropy_class_weights", "label_smoothing"}
PLATEAU = {"plateau_factor", "plateau_patience", "early_stopping_patience"}
HYPOTHESIS = NAMES | {"compare_with"}  # and the one thing that is asked about
REGIONS = {"landmarks", "threshold_candidates", "postprocessing"}  # what regions need instead of landmarks
HYPOTHESES = {"hc18_landmarks_sharp", "hc18_landmarks_plain", "hc18_landmarks_attention"}
DIFFER = {  # two studies, and the keys in which they differ: a comparison must not change more than it says
    ("hc18_quick", "hc18_unet"): SMALLER | {"fold_count", "folds", "seeds"},
    ("hc18_segnet_quick", "hc18_segnet"): SMALLER | PLATEAU | {"fold_count", "folds", "depth"},
    ("phantom_hc18_segnet", "hc18_segnet_quick"): NAMES
    | {"dataset", "fold_count", "image_size", "epochs", "plateau_patience"},
    ("hc18_landmarks_sharp", "hc18_landmarks_quick"): HYPOTHESIS | {"heatmap_sigma"},
    ("hc18_landmarks_plain", "hc18_landmarks_quick"): HYPOTHESIS
    | {"horizontal_flip", "affine_probability", "intensity_probability"},
    ("hc18_landmarks_attention", "hc18_landmarks_quick"): HYPOTHESIS | {"model"},
    ("hc18_ellipse_quick", "hc18_landmarks_quick"): HYPOTHESIS | REGIONS | {"epochs", "batch_size"},
    ("hc18_ellipse_quick", "hc18_quick"): HYPOTHESIS | {"folds"},
    ("hc18_ellipse", "hc18_landmarks"): HYPOTHESIS | REGIONS | {"heatmap_sigma"},
    ("hc18_ellipse", "hc18_unet"): HYPOTHESIS,
    ("hc18_landmarks_quick", "hc18_landmarks"): SMALLER
    | {"fold_count", "folds", "seeds", "batch_size", "heatmap_sigma"},
    ("phantom_hc18_landmarks", "hc18_landmarks_quick"): NAMES
    | {"dataset", "fold_count", "folds", "image_size", "epochs"},
    ("lgg_quick", "lgg"): SMALLER
    | {"fold_count", "folds", "validation_subjects", "optimizer", "weight_decay", "schedule", "gradient_clip"}
    | {"cross_entropy_weight", "oversample_classes", "oversample_factor", "area_weight_floor"}
    | {"shift_fraction", "scale_fraction", "brightness_contrast", "intensity_probability"}
    | {"tensorboard_every", "tensorboard_images"},
    ("phantom_lgg", "lgg_quick"): NAMES
    | {"dataset", "fold_count", "folds", "image_size", "depth", "epochs", "tensorboard_every"},
    ("fetal_tumour_quick", "fetal_tumour"): SMALLER | {"schedule", "folds"},
    ("phantom_fetal_tumour", "fetal_tumour_quick"): NAMES
    | {"dataset", "image_size", "normalisation", "epochs", "learning_rate", "head_classes"},
    ("busi_quick", "busi"): SMALLER | {"batch_size", "seeds"},
    ("phantom_brain_structures", "brain_structures"): SMALLER | {"dataset", "schedule", "folds"},
    ("phantom_brain_structures_even", "phantom_brain_structures"): NAMES | {"oversample_classes", "oversample_factor"},
    ("demo", "phantom_brain_structures"): NAMES
    | LOSS
    | {"dataset", "groups", "model", "epochs", "batch_size", "optimizer", "weight_decay", "selection_metric"}
    | {"oversample_classes", "oversample_factor", "affine_probability", "shift_fraction", "brightness_contrast"}
    | {"clahe_probability", "postprocessing", "minimum_area_mm2"},
}


def write_study(folder, text=None, name="tiny", **changes):
    path = folder / f"{name}.yaml"
    path.write_text(text if text is not None else yaml.safe_dump(builders.values(study=name) | changes))
    return path


def fault_of(**changes):
    """The one line that one wrong value gives."""
    faults = params.find_faults(builders.values(**changes), params.Study)
    assert len(faults) == 1, faults
    return faults[0]


def without(key):
    return {name: value for name, value in builders.values().items() if name != key}


# Study files


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_file_is_valid(path):
    assert params.read_study(path).study == path.stem


@pytest.mark.parametrize(("one", "other"), sorted(DIFFER), ids=str)
def test_two_studies_differ_in_these_keys_only(one, other):
    first, second = (params.read_study(files.study_file(name)).model_dump() for name in (one, other))
    assert {key for key in first if first[key] != second[key]} == DIFFER[(one, other)]


def test_every_study_file_is_compared_with_another():
    assert {name for pair in DIFFER for name in pair} == {path.stem for path in STUDIES}


SAME_CASES = ("dataset", "groups", "exclude", "fold_count", "split_seed", "folds")  # what decides who is tested


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_that_are_compared_exist_and_test_the_same_cases(path):
    study = params.read_study(path)
    for name in study.compare_with:
        other = params.read_study(files.study_file(name))
        assert {key: getattr(study, key) for key in SAME_CASES} == {key: getattr(other, key) for key in SAME_CASES}


def test_no_two_studies_compare_each_other_in_a_circle():
    asked = {path.stem: set(params.read_study(path).compare_with) for path in STUDIES}
    while done := {name for name, others in asked.items() if not others & asked.keys()}:
        asked = {name: others for name, others in asked.items() if name not in done}
    assert asked == {}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_without_augmentation_or_of_one_hypothesis_says_so_beside_the_key(path):
    study, text = params.read_study(path), path.read_text(encoding="utf-8")
    assert text.startswith("# Hypothesis: ") == (path.stem in HYPOTHESES)
    if path.stem in HYPOTHESES:
        (other,) = study.compare_with
        changed = DIFFER[(path.stem, other)] - HYPOTHESIS
        for key in changed:
            assert re.search(rf"(?m)^{key}: .*  # \S", text), key


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_has_the_classes_groups_and_colours_of_its_data_set(path):
    study = params.read_study(path)
    assert list(datasets.of(study).classes) == study.classes


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_key_of_a_study_file_stands_on_a_line_of_its_own(path):
    keys = re.findall(r"^(\w+):", path.read_text(), flags=re.MULTILINE)
    assert set(keys) == set(params.Study.model_fields)
    assert len(keys) == len(set(keys))


# The models


def test_no_key_but_the_shared_ones_belongs_to_two_notebooks():
    shared = set(params.SharedParams.model_fields)
    for one, other in itertools.combinations(params.STEPS.values(), 2):
        assert set(one.model_fields) & set(other.model_fields) == shared, (one, other)


def test_a_study_has_the_keys_of_all_steps_and_no_other():
    keys = set().union(*(model.model_fields for model in params.STEPS.values()))
    assert keys == set(params.Study.model_fields)


def test_no_key_has_a_default_and_every_key_says_what_is_allowed():
    for key, described in params.Study.model_fields.items():
        assert described.is_required(), key
        assert described.description, key


def test_a_step_gets_its_own_keys_out_of_a_study():
    study = params.read_study(files.study_file("hc18_quick"))
    chosen = params.step_params(study, "06_biometry")
    assert chosen.hc_range_mm == [40.0, 400.0]
    assert not hasattr(chosen, "epochs")


def test_parameters_cannot_be_changed_after_reading():
    with pytest.raises(ValueError, match="frozen"):
        builders.training_params().epochs = 5


# Single faults


@pytest.mark.parametrize("key", sorted(params.Study.model_fields))
def test_a_missing_key_is_named_with_what_is_allowed(key):
    (fault,) = params.find_faults(without(key), params.Study)
    assert fault == f"{key}   missing; {params.Study.model_fields[key].description}"


def test_missing_keys_are_no_fault_of_a_part():
    assert params.find_faults({"epochs": 5, "depth": 4}, params.Study, partial=True) == []


def test_an_unknown_key_is_answered_with_the_nearest():
    assert fault_of(lerning_rate=0.001) == "lerning_rate = 0.001   no such key; nearest: learning_rate"


def test_an_unknown_key_unlike_any_other_has_no_nearest():
    assert fault_of(zzz=1) == "zzz = 1   no such key"


def test_1e_4_is_text_to_yaml_and_the_fault_says_how_to_write_it():
    read = yaml.safe_load("learning_rate: 1e-4")
    expected = "this is text to YAML: write 0.0001 without quotes, with a point (1.0e-4, not 1e-4)"
    assert fault_of(**read).endswith(expected)


def test_1e_4_in_a_list_has_the_same_hint():
    assert "write 0.0001 without quotes" in fault_of(dice_class_weights=["1e-4", 1.0])


def test_a_whole_number_as_text_is_answered_with_a_whole_number():
    assert fault_of(epochs="1e3").endswith("write 1000 without quotes")


def test_a_number_as_text_in_a_key_that_may_be_null_has_the_hint():
    assert "write 0.5 without quotes" in fault_of(gradient_clip="0.5")


def test_a_misspelt_word_is_answered_with_the_nearest():
    assert fault_of(schedule="cosin").endswith("nearest: cosine")


def test_a_misspelt_word_in_a_list_is_answered_with_the_nearest():
    assert fault_of(postprocessing=["fill_hole"]).endswith("nearest: fill_holes")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 3.0),
        ("epochs", True),
        ("epochs", 0),
        ("epochs", 5001),
        ("epochs", None),
        ("fold_count", 2),
        ("split_seed", -1),
        ("split_seed", 2**63),  # torch takes 64 bits, tables hold whole numbers of 63 and a sign
        ("seed", 2**63),
        ("seeds", [0, 2**63]),
        ("learning_rate", 0.0),
        ("learning_rate", 1.01),
        ("learning_rate", float("nan")),
        ("gradient_clip", 0.0),
        ("gradient_clip", float("inf")),
        ("cross_entropy_weight", float("inf")),
        ("horizontal_flip", 1.5),
        ("plateau_factor", 1.0),
        ("early_stopping_patience", 0),
        ("flip_average", 1),
        ("flip_average", "yes"),
        ("image_size", [128]),
        ("image_size", [128, 192, 3]),
        ("image_size", [16, 192]),
        ("image_size", 128),
        ("classes", ["background"]),
        ("classes", ["background", "Head"]),
        ("exclude", "010_HC"),
        ("exclude", [10]),
        ("seeds", []),
        ("title", ""),
        ("title", 5),
        ("hc_range_mm", [40.0, float("inf")]),
        ("near_duplicate_correlation", 0.29),
        ("near_duplicate_correlation", 1.01),
        ("threshold_candidates", [0.5, 1.0]),
        ("postprocessing", ["watershed"]),
        ("palette", [[0, 0, 0], [256, 0, 0]]),
        ("palette", [[0, 0, 0], [255.0, 0, 0]]),
        ("palette", "red"),
        ("groups", "benign"),
        ("groups", [1]),
        ("model", "unet++"),
        ("depth", 7),
        ("encoder", "resnet50"),
        ("encoder_weights", "ImageNet"),
        ("focal_weight", -0.1),
        ("focal_gamma", 10.5),
        ("label_smoothing", 1.0),
        ("cross_entropy_class_weights", [1.0, -1.0]),
        ("selection_metric", "f1"),
        ("intensity_probability", 1.1),
        ("clahe_probability", -0.1),
        ("closing_pixels", 0),
        ("dilation_pixels", 5.0),
        ("minimum_area_mm2", -1.0),
        ("parts_kept", 0),
        ("minimum_probability", 1.5),
        ("minimum_margin", -0.1),
        ("head_classes", ["Head"]),
        ("landmarks", "hc18"),
        ("landmarks", None),
        ("validation_subjects", 0),
        ("validation_subjects", 2.0),
        ("end_slices_dropped", -1),
        ("end_slices_dropped", 11),
        ("end_slices_dropped", None),
        ("crop_level", 1.0),
        ("crop_level", -0.1),
        ("intensity_percentiles", [10.0]),
        ("intensity_percentiles", [10.0, 101.0]),
        ("heatmap_sigma", 0.0),
        ("heatmap_sigma", 51.0),
        ("heatmap_sigma_unit", "px"),
        ("heatmap_per", "end"),
        ("area_weight_floor", 1.1),
        ("compile", "yes"),
        ("tensorboard_every", 0),
        ("tensorboard_images", 0),
        ("tensorboard_images", 65),
        ("compare_with", "hc18_quick"),
        ("compare_with", ["HC18"]),
    ],
)
def test_a_value_of_wrong_type_or_range_is_one_fault_that_says_what_is_allowed(key, value):
    fault = fault_of(**{key: value})
    assert fault.startswith(f"{key} = {value!r}   not allowed; ")
    assert params.Study.model_fields[key].description in fault


def test_whole_numbers_may_stand_for_floats():
    assert params.find_faults(builders.values(hc_range_mm=[40, 400], weight_decay=0), params.Study) == []


# Rules between keys


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["head", "background"], "head_classes": ["background"]}, "the first class is background"),
        ({"image_size": [100, 192]}, "multiples of 16; nearest: [96, 192]"),
        ({"image_size": [32, 64], "depth": 6}, "multiples of 64; nearest: [64, 64]"),
        ({"dice_class_weights": [1.0]}, "one for each class"),
        ({"dice_class_weights": [0.0, 0.0]}, "not all 0 where dice_weight is above 0"),
        ({"selection_class_weights": [0.0, 0.0]}, "one for each class, not all 0"),
        ({"cross_entropy_class_weights": [1.0, 1.0, 1.0]}, "one for each class, not all 0"),
        ({"cross_entropy_class_weights": [0.0, 0.0]}, "one for each class, not all 0"),
        (
            {"cross_entropy_weight": 0.0, "focal_weight": 0.0, "dice_weight": 0.0},
            "cross_entropy_weight, focal_weight and dice_weight not all 0",
        ),
        ({"palette": [[0, 0, 0]]}, "[], or three numbers for each class, no colour twice"),
        ({"palette": [[0, 0, 0], [255, 0]]}, "[], or three numbers for each class, no colour twice"),
        ({"palette": [[9, 9, 9], [9, 9, 9]]}, "[], or three numbers for each class, no colour twice"),
        ({"groups": ["benign", "malignant", "benign"]}, "no group twice"),
        ({"model": "resnet_unet", "depth": 4}, "5 with resnet_unet, at most 5 with segnet and segnet_skips"),
        ({"model": "segnet", "depth": 6}, "5 with resnet_unet, at most 5 with segnet and segnet_skips"),
        ({"model": "segnet_skips", "depth": 6}, "5 with resnet_unet, at most 5 with segnet and segnet_skips"),
        (
            {"batch_size": 1, "image_size": [32, 32], "depth": 5},
            "at least 2 where image_size / 2**depth is one pixel: batch normalisation has one value to go by",
        ),
        (
            {"batch_size": 1, "image_size": [32, 32], "model": "resnet_unet", "depth": 5, "normalisation": "none"},
            "at least 2 where image_size / 2**depth is one pixel: batch normalisation has one value to go by",
        ),
        ({"closing_pixels": 4}, "odd: an even kernel has no middle"),
        ({"dilation_pixels": 10}, "odd: an even kernel has no middle"),
        ({"oversample_classes": ["background"]}, "classes other than background"),
        ({"head_classes": ["heart"]}, "classes other than background"),
        ({"folds": [6]}, "0 to fold_count - 1, once each"),
        ({"folds": [0, 0]}, "0 to fold_count - 1, once each"),
        ({"seeds": [1, 1]}, "no seed twice"),
        ({"threshold_candidates": []}, "at least one with two classes, [] with more (the most probable class wins)"),
        ({"hc_range_mm": [400.0, 40.0]}, "least before largest"),
        ({"intensity_percentiles": [99.0, 10.0]}, "lower before upper"),
        ({"intensity_percentiles": [10.0, 10.0]}, "lower before upper"),
        ({"compare_with": ["hc18_unet", "hc18_quick"]}, "other studies, once each"),
        ({"compare_with": ["hc18_unet", "hc18_unet"]}, "other studies, once each"),
    ],
    ids=str,
)
def test_a_rule_between_keys_is_said_in_words(changes, said):
    faults = params.find_faults(builders.values(**changes), params.Study)
    assert any(fault.endswith(said) for fault in faults), faults


@pytest.mark.parametrize(
    "changes",
    [
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
        {"split_seed": 2**63 - 1, "seed": 2**63 - 1, "seeds": [0, 2**63 - 1]},
        {"encoder_weights": "imagenet"},
        {"cross_entropy_weight": 0.0, "focal_weight": 1.0, "dice_weight": 0.0},
        {"cross_entropy_class_weights": [0.0, 1.0]},
        {"postprocessing": ["fill_holes", "largest_component", "fill_holes"]},
        {"postprocessing": []},
        {"closing_pixels": 1, "dilation_pixels": 99},
        {"landmarks": "multicentre", "heatmap_per": "point", "heatmap_sigma_unit": "mm"},
        {"landmarks": "role_challenge", "model": "attention_unet"},
        {"landmarks": "multicentre", "model": "resnet_unet", "depth": 5},
        {"validation_subjects": None},
        {"validation_subjects": 1},
        {"end_slices_dropped": 0, "crop_level": 0.0, "intensity_percentiles": [0.0, 100.0]},
        {"area_weight_floor": None, "tensorboard_every": None},
        {"area_weight_floor": 0.0, "tensorboard_every": 1, "tensorboard_images": 64, "compile": True},
        {"compare_with": ["hc18_unet", "hc18_segnet"]},
    ],
    ids=str,
)
def test_what_the_rules_allow_is_no_fault(changes):
    assert params.find_faults(builders.values(**changes), params.Study) == []


def test_thresholds_with_four_classes_are_refused():
    demo = params.read_yaml(files.study_file("demo"))
    (fault,) = params.find_faults(demo | {"threshold_candidates": [0.5]}, params.Study)
    assert fault.startswith("threshold_candidates = [0.5]   not allowed")


def test_a_class_twice_is_refused():
    assert any(
        fault.endswith("no class twice")
        for fault in params.find_faults(builders.values(classes=["background", "head", "head"]), params.Study)
    )


def test_all_zero_dice_weights_are_allowed_where_dice_is_not_used():
    assert params.find_faults(builders.values(dice_weight=0.0, dice_class_weights=[0.0, 0.0]), params.Study) == []


def test_a_rule_is_not_applied_to_a_value_that_is_wrong_in_itself():
    assert len(params.find_faults(builders.values(image_size="large", depth=4), params.Study)) == 1


# Whole files


def test_all_faults_of_a_file_are_told_at_once_under_its_name(tmp_path):
    path = write_study(tmp_path, lerning_rate=0.001, image_size=[250, 192], epochs=0, seeds=[2, 2])
    with pytest.raises(ValueError, match="4 faults") as caught:
        params.read_study(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 4 faults"
    assert sorted(line.split()[0] for line in lines[1:]) == ["epochs", "image_size", "lerning_rate", "seeds"]


def test_one_fault_is_not_faults(tmp_path):
    with pytest.raises(ValueError, match=r"tiny\.yaml: 1 fault\n"):
        params.read_study(write_study(tmp_path, epochs=0))


def test_a_study_named_otherwise_than_its_file_is_refused(tmp_path):
    path = write_study(tmp_path, study="other")
    with pytest.raises(ValueError, match=r"study = 'other'   the file is named tiny\.yaml; expected 'tiny'"):
        params.read_study(path)


def test_a_key_given_twice_is_refused(tmp_path):
    text = yaml.safe_dump(builders.values(study="tiny")) + "epochs: 7\n"
    with pytest.raises(ValueError, match=r"tiny\.yaml: cannot be read as YAML: .*given twice: epochs"):
        params.read_study(write_study(tmp_path, text))


def test_a_missing_study_is_answered_with_those_there_are_and_the_nearest(tmp_path):
    write_study(tmp_path, name="hc18_quick")
    with pytest.raises(ValueError, match=r"no such study file; there are: hc18_quick; nearest: hc18_quick"):
        params.read_study(tmp_path / "hc18_quik.yaml")


def test_a_missing_study_in_an_empty_folder_says_that_there_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"there are: none$"):
        params.read_study(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds NoneType; expected keys and values"),
        ("- a\n- b\n", "holds list; expected keys and values"),
        ("epochs: [1, 2\n", "cannot be read as YAML"),
        ("epochs:\t5\n\tdepth: 4\n", "cannot be read as YAML"),
        ("yes: 5\n2: 2\n", r"keys \[True, 2\]; expected names"),
        ("device: !!python/object/apply:os.getcwd []\n", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_flat_yaml_is_refused_by_name(tmp_path, text, said):
    with pytest.raises(ValueError, match=rf"tiny\.yaml: {said}"):
        params.read_study(write_study(tmp_path, text))


def test_a_file_that_is_not_utf_8_is_refused_by_name(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_bytes("title: Größe".encode("latin-1"))
    with pytest.raises(ValueError, match=r"tiny\.yaml: cannot be read as YAML"):
        params.read_study(path)
