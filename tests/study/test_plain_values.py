from dataclasses import make_dataclass

from lib.study.plain_values import pick
from tests import builders


def test_a_record_of_plain_values_is_filled_from_the_keys_that_its_fields_are_named_after():
    picked = pick(builders.training_params(seed=3), make_dataclass("Drawn", [("seed", int), ("batch_size", int)]))
    assert (picked.seed, picked.batch_size) == (3, 4)
