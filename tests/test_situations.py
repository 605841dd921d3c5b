"""The situations of tests/situations.py, each as a test; the quick ones in every run."""

import pytest

from tests import situations

OTHERS = [what for what in situations.ALL if what not in situations.FAST]
QUICK = [pytest.param(what, marks=pytest.mark.study) for what in situations.FAST]
SLOW = [pytest.param(what, marks=[pytest.mark.study, pytest.mark.slow]) for what in OTHERS]


@pytest.mark.parametrize("what", QUICK + SLOW)
def test_what_is_said_in_an_unusual_place_is_right(tiny_project, what):
    outcome = situations.attempt(what, tiny_project)
    if outcome.right is None:
        pytest.skip(outcome.said)
    assert outcome.right, f"{what}: status {outcome.status}: {outcome.said}"
