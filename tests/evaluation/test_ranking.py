import pandas as pd
import pytest

from lib.data.evaluation_set import EvaluationSet
from lib.evaluation import ranking
from tests import builders

FOLDS = pd.DataFrame({"case": list("abc"), "subject": list("abc"), "fold": [0, 0, 1], "validates": True})
BENCH = EvaluationSet(None, FOLDS.assign(fold_group=FOLDS["subject"]), None, None, None)
SOUND = [("a", 0, 4, 2, 1, 3), ("b", 0, 0, 0, 0, 10), ("c", 1, 5, 5, 2, 0)]


def test_cases_are_ranked_from_worst_to_best_by_their_lowest_class_and_absent_ones_left_out():
    rows = [("a", 0, 9, 1, 0, 0), ("b", 0, 1, 9, 0, 0), ("c", 0, 0, 0, 0, 10), ("d", 0, 1, 9, 0, 0)]
    assert ranking.ranked(builders.table_of(rows))["case"].tolist() == ["b", "d", "a"]
    table = builders.table_of([("a", 0, 9, 1, 0, 0), ("b", 0, 8, 2, 0, 0)])
    small = builders.table_of([("a", 0, 1, 9, 0, 0), ("b", 0, 0, 0, 0, 10)]).assign(**{"class": "csp"})
    rows = ranking.ranked(pd.concat([table, small], ignore_index=True))
    assert list(zip(rows["case"], rows["class"])) == [("a", "csp"), ("b", "head")]


def test_the_middle_of_a_ranking():
    rows = pd.DataFrame({"case": list("xyabcde"), "tp": [0, 0, 0, 1, 2, 3, 4], "fn": [0, 0, 5, 4, 3, 2, 1]})
    for count, middle in ((1, "c"), (3, "bcd"), (9, "abcde")):  # x and y are inventions
        assert ranking.around_median(rows, count)["case"].tolist() == list(middle)


@pytest.mark.parametrize(
    ("rows", "folds", "complete"),
    [
        (SOUND, [0, 1], True),
        (SOUND[:2], [0], True),
        (SOUND, [0], False),  # a case of an untested fold
        (SOUND[:2], [0, 1], False),
        ([*SOUND, ("d", 1, 1, 1, 1, 1)], [0, 1], False),
        ([*SOUND[:2], ("c", 0, 5, 5, 2, 0)], [0, 1], False),  # in another fold
        ([*SOUND, ("a", 1, 4, 2, 1, 3)], [0, 1], False),  # tested twice
    ],
)
def test_a_table_with_other_cases_than_those_of_its_folds_is_found(rows, folds, complete):
    assert ranking.is_complete(builders.table_of(rows), BENCH, folds) == complete
