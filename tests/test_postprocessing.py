import numpy as np
import pytest

from lib import params, postprocessing

SPOTS = np.array(
    [
        [1, 1, 1, 0, 1],
        [1, 2, 1, 0, 0],
        [2, 1, 1, 0, 2],
        [0, 0, 0, 0, 2],
    ],
    np.uint8,
)
RING = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 0, 2, 0],
        [0, 1, 1, 1, 0],
    ],
    np.uint8,
)


def test_what_lies_apart_from_the_head_goes_and_both_parts_of_a_structure_in_it_stay():
    kept = SPOTS.copy()
    kept[:, 4] = 0
    assert np.array_equal(postprocessing.largest_component(SPOTS), kept)


def test_an_enclosed_hole_becomes_the_first_class():
    filled = RING.copy()
    filled[2, 2] = 1
    assert np.array_equal(postprocessing.fill_holes(RING), filled)


def test_a_bay_is_no_hole():
    bay = RING.copy()
    bay[1, 2] = 0
    bay[2, 2] = 0
    assert np.array_equal(postprocessing.fill_holes(bay), bay)


def test_steps_are_done_in_order():
    mask = np.zeros((9, 9), np.uint8)
    mask[1:8, 1:8] = 1
    mask[2:7, 2:7] = 0
    mask[4, 4] = 1
    first_filled = postprocessing.apply(mask, ["fill_holes", "largest_component"])
    assert first_filled.sum() == 49
    assert np.array_equal(postprocessing.apply(mask, ["largest_component", "fill_holes"]), first_filled)
    assert postprocessing.apply(mask, ["largest_component"]).sum() == 24


def test_no_steps_leave_the_mask_as_it_is():
    assert np.array_equal(postprocessing.apply(SPOTS, []), SPOTS)


@pytest.mark.parametrize("step", sorted(postprocessing.STEPS))
def test_a_step_keeps_its_input_and_the_type(step):
    before = SPOTS.copy()
    after = postprocessing.STEPS[step](SPOTS)
    assert after.dtype == np.uint8
    assert after.shape == SPOTS.shape
    assert np.array_equal(SPOTS, before)


@pytest.mark.parametrize("step", sorted(postprocessing.STEPS))
def test_a_step_done_twice_changes_nothing_more(step):
    noise = np.random.default_rng(0).integers(0, 3, (30, 30)).astype(np.uint8)
    once = postprocessing.STEPS[step](noise)
    assert np.array_equal(postprocessing.STEPS[step](once), once)


@pytest.mark.parametrize("step", sorted(postprocessing.STEPS))
def test_an_empty_mask_stays_empty(step):
    assert not postprocessing.STEPS[step](np.zeros((5, 5), np.uint8)).any()


def test_the_steps_are_those_that_a_study_file_may_name():
    allowed = params.Study.model_fields["postprocessing"].description
    assert all(step in allowed for step in postprocessing.STEPS)
    assert params.innermost(params.Study.model_fields["postprocessing"].annotation) == set(postprocessing.STEPS)
