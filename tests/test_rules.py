"""Rules between keys are pure data: each must name keys that exist, and blame one of them."""

import inspect

import pytest

from lib import params, rules
from tests import builders


@pytest.mark.parametrize(
    ("value", "of", "expected"), [(96, 16, 96), (100, 16, 96), (105, 16, 112), (250, 32, 256), (3, 16, 16), (0, 8, 8)]
)
def test_the_nearest_multiple_is_never_0(value, of, expected):
    assert rules.nearest_multiple(value, of) == expected


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule[1])
def test_a_rule_names_keys_of_a_study_and_takes_as_many(rule):
    keys, blamed, holds, said = rule
    assert set(keys) <= set(params.Study.model_fields)
    assert blamed in keys
    assert len(inspect.signature(holds).parameters) == len(keys)
    if not isinstance(said, str):
        assert len(inspect.signature(said).parameters) == len(keys)


def test_every_rule_holds_for_the_quick_study():
    given = builders.values()
    assert all(holds(*(given[key] for key in keys)) for keys, _, holds, _ in rules.RULES)
