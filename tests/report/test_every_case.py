import itertools

import numpy as np
import pandas as pd
import pytest

from lib.report import every_case

NAN = float("nan")


def masks(*counts: tuple[int, int, int], name: str = "lv") -> pd.DataFrame:
    """Rows of cases.csv of a class: (tp, fp, fn) of each case, after post-processing; raw masks are all empty."""
    rows = []
    for (place, (tp, fp, fn)), stage in itertools.product(enumerate(counts), ("raw", "post")):
        tp, fp = (0, 0) if stage == "raw" else (tp, fp)
        total = 2 * tp + fp + fn
        row = {"case": f"case {place:03d}", "subject": f"s{place}", "fold": 0, "seed": 0, "class": name, "stage": stage}
        row |= {"tp": tp, "fp": fp, "fn": fn, "dice": 2 * tp / total if total else NAN}
        rows.append(row | {"hd95_mm": 1.25 if tp else NAN, "hd95_px": NAN})
    return pd.DataFrame(rows)


def head(case: str, predicted_mm: float, **changes) -> dict:
    row = {"case": case, "subject": "s0", "fold": 0, "seed": 0, "stage": "post", "route": "ellipse", "quantity": "hc"}
    row |= {
        "predicted_mm": predicted_mm,
        "reference_mm": 100.0,
        "low_mm": 96.5,
        "high_mm": 104.25,
        "flags": "elongated",
    }
    return row | changes


NO_HEADS = pd.DataFrame()


def test_each_case_has_its_dice_or_says_missed_invented_or_nothing():
    found = every_case.every_case(masks((3, 1, 1), (0, 0, 4), (0, 4, 0), (0, 0, 0)), NO_HEADS)
    assert (found["cases"], found["unit"], found["items"]) == (4, "mm", ["LV"])
    assert [row["values"] for row in found["rows"]] == [["0.750"], ["missed"], ["invented"], ["–"]]
    assert [row["distances"] for row in found["rows"]] == [["1.25"], ["–"], ["–"], ["–"]]
    assert found["rows"][0]["anchor"] == "case%20000"  # of the gallery
    assert "hc" not in found["rows"][0]


def test_a_measured_head_has_its_error_interval_and_flags_and_others_a_dash():
    measured = [head("case 000", 98.5), head("case 000", 60, route="baseline"), head("case 000", 97, stage="raw")]
    measured += [head("case 001", NAN, subject="s1", low_mm=NAN, high_mm=NAN, flags="")]
    rows = every_case.every_case(masks((3, 1, 1), (3, 1, 1), (3, 1, 1)), pd.DataFrame(measured))["rows"]
    assert rows[0]["hc"] == ["100.00", "98.50", "−1.50", "96.50\u00a0to\u00a0104.25", "elongated"]
    assert rows[1]["hc"] == ["100.00", "–", "–", "–", ""]
    assert rows[2]["hc"] == ["–", "–", "–", "–", ""]


def test_lines_have_their_endpoint_error_in_pixels_where_no_pixel_size_is_known():
    rows = [("ofd", "landmark", 2.5), ("bpd", "landmark", NAN), ("ofd", "mean shape", 9.0)]
    table = pd.DataFrame(rows, columns=["line", "route", "error_px"]).assign(case="a/b", subject="s", fold=1, seed=0)
    found = every_case.every_case(table.assign(error_mm=NAN, normalised_error_percent=1.0), NO_HEADS)
    assert (found["unit"], found["items"]) == ("px", ["OFD", "BPD"])
    (row,) = found["rows"]
    assert (row["values"], row["distances"], row["fold"]) == (["2.50", "missed"], [], "1")
    assert row["anchor"] == "a%2Fb"


@pytest.mark.parametrize(("count", "printed", "first"), [(200, 200, "case 000"), (201, 50, "case 200")])
def test_of_more_than_200_cases_the_50_worst_are_printed(count, printed, first):
    found = every_case.every_case(masks(*((1000 - place, 10, 10) for place in range(count))), NO_HEADS)
    assert (found["cases"], len(found["rows"]), found["rows"][0]["case"]) == (count, printed, first)
    assert np.unique([row["case"] for row in found["rows"]]).size == printed
