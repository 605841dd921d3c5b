"""Rules between keys are pure data: each must name keys that exist, and blame one of them."""

import inspect

import pytest
import torch

from lib import models
from lib.study import param_rules, params
from tests import builders


@pytest.mark.parametrize(
    ("value", "of", "expected"), [(96, 16, 96), (100, 16, 96), (105, 16, 112), (250, 32, 256), (3, 16, 16), (0, 8, 8)]
)
def test_the_nearest_multiple_is_never_0(value, of, expected):
    assert param_rules.nearest_multiple(value, of) == expected


@pytest.mark.parametrize("rule", param_rules.RULES, ids=lambda rule: rule[0][0])
def test_a_rule_names_keys_of_a_study_and_takes_as_many(rule):
    keys, holds, said = rule
    assert set(keys) <= set(params.Study.model_fields)
    if not isinstance(said, str):
        assert len(inspect.signature(said).parameters) == len(keys)


def test_every_rule_holds_for_the_quick_study():
    given = builders.values()
    assert all(holds(*(given[key] for key in keys)) for keys, holds, _ in param_rules.RULES)


@pytest.mark.parametrize("model", models.MODELS)
@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_a_network_is_said_to_end_in_one_pixel_where_torch_refuses_one_image_of_that_size(model, normalisation):
    given = {"in_channels": 1, "out_channels": 1}
    own = {"base_channels": 4, "depth": 5, "normalisation": normalisation}
    network = models.build(model, given | ({"encoder": "resnet18"} if model == "resnet_unet" else own)).train()
    refused = {}
    for size in ([32, 32], [32, 64]):
        try:
            network(torch.zeros(1, 1, *size))
            refused[tuple(size)] = False
        except ValueError as error:
            refused[tuple(size)] = "more than 1 value per channel" in str(error)
    assert refused == {(r, c): param_rules.ends_in_one_pixel([r, c], 5, model, normalisation) for r, c in refused}
