"""Split-conformal bounds: ranks counted by hand, weights of subjects, and coverage by enumeration."""

import itertools

import numpy as np
import pytest

from lib.statistics import conformal


@pytest.mark.parametrize(
    ("count", "level", "rank"),
    [(100, 0.9, 91), (82, 0.9, 75), (9, 0.9, 9), (10, 0.9, 10), (19, 0.95, 19), (335, 0.95, 320), (3, 0.5, 2)],
)
def test_with_one_image_per_subject_the_bound_is_the_score_of_a_known_rank(count, level, rank):
    scores = np.random.default_rng(count).permutation(np.arange(1, count + 1)).astype(float)
    subjects = [f"s{n}" for n in range(count)]
    assert conformal.quantile(scores, subjects, level) == rank == np.ceil(round((count + 1) * level, 9))


@pytest.mark.parametrize(("count", "level"), [(8, 0.9), (1, 0.9), (18, 0.95), (0, 0.9)])
def test_too_few_subjects_have_no_bound(count, level):
    assert conformal.quantile(np.ones(count), [f"s{n}" for n in range(count)], level) == np.inf
    assert count < conformal.fewest_subjects(level)


def test_the_fewest_subjects_are_nine_for_90_percent_and_nineteen_for_95():
    assert [conformal.fewest_subjects(level) for level in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]


def test_images_of_a_subject_share_its_weight():
    # Weights of 5: the sorted scores 1, 2, 2.5, 3, 4, 9 of a, b, c, b, c, d weigh 1, 1/2, 1/2, 1/2, 1/2, 1.
    scores, subjects = [1, 2, 3, 2.5, 4, 9], ["a", "b", "b", "c", "c", "d"]
    assert [conformal.quantile(scores, subjects, share / 5) for share in (1, 1.5, 2, 2.5, 3, 3.5, 4)] == [
        *(1, 2, 2.5, 3, 4, 9, 9)
    ]
    assert conformal.quantile(scores, subjects, 0.81) == np.inf
    repeated = conformal.quantile(np.repeat(scores, 7), np.repeat(subjects, 7), 0.6)
    assert repeated == conformal.quantile(scores, subjects, 0.6) == 4


def test_a_score_that_is_missing_or_infinite_is_above_every_bound():
    scores, subjects = np.arange(1.0, 21), [f"s{n}" for n in range(20)]
    assert conformal.quantile(scores, subjects) == 19  # of 21 x 0.9 = 18.9
    for missing in (np.nan, np.inf):
        scores[[0, 7]] = missing  # 19 and 20 are now of rank 17 and 18
        assert conformal.quantile(scores, subjects) == np.inf
        assert conformal.quantile(scores, subjects, 0.85) == 20  # of 21 x 0.85 = 17.85
        scores[[0, 7]] = 1, 8


def test_every_new_subject_is_covered_as_often_as_promised_over_all_orders_of_a_finite_population():
    # Exchangeable: each of five subjects in turn is the new one, and one of its images at random is asked for.
    population = {"a": [1.0, 5.0], "b": [2.0], "c": [3.0, 3.5, 8.0], "d": [4.0], "e": [0.5, 6.0]}
    for level in (0.3, 0.5, 0.6, 0.79):
        covered = []
        for new in population:
            kept = [(score, name) for name, scores in population.items() if name != new for score in scores]
            bound = conformal.quantile(*zip(*kept), level)
            covered.append(np.mean(np.array(population[new]) <= bound))
        assert np.mean(covered) >= level - 1e-12


@pytest.mark.parametrize(
    ("scores", "subjects", "level", "message"),
    [
        ([1.0, 2.0], ["a"], 0.9, r"\(2,\) scores of \(1,\) subjects"),
        ([1.0, 2.0], ["a", None], 0.9, "a score has no subject"),
        ([1.0, 2.0], ["a", np.nan], 0.9, "a score has no subject"),
        ([1.0], ["a"], 1.0, "level = 1.0   not allowed; expected above 0 and below 1"),
    ],
)
def test_bad_input_is_refused(scores, subjects, level, message):
    with pytest.raises(ValueError, match=message):
        conformal.quantile(scores, subjects, level)


def test_the_order_of_scores_does_not_matter():
    scores, subjects = [1.0, 2.0, 2.0, 3.0], ["a", "b", "c", "c"]
    bounds = {conformal.quantile(*zip(*order), 0.5) for order in itertools.permutations(list(zip(scores, subjects)))}
    assert bounds == {2.0}
