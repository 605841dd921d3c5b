import pandas as pd
import pytest
from scipy import stats

from lib.evaluation import failures as listing
from lib.report import captions, tables
from lib.report.summaries import failures
from tests.builders_figures import line_errors, overlap_rows
from tests.evaluation.test_failures import manifest, structures

NOTHING = pd.DataFrame(columns=["case", "check"])
POOR, GOOD = (1, 9, 9), (90, 1, 1)  # tp, fp, fn


def heads(poor: int, good: int, **columns: object) -> tuple[pd.DataFrame, ...]:
    """cases.csv, structures, manifest, findings: the first cases fail; all structures are equally large."""
    count = poor + good
    about = structures({"csp": [4.0] * count, listing.WHOLE: [4.0] * count}).assign(contrast=0.5)
    return overlap_rows([POOR] * poor + [GOOD] * good), about, manifest(count, **columns), NOTHING


def test_failures_are_counted_by_class_and_kind_with_wilson_intervals():
    csp = overlap_rows([POOR, (0, 0, 9), (0, 9, 0), GOOD, (0, 0, 0)])
    lv = overlap_rows([GOOD, POOR, GOOD, GOOD, GOOD]).assign(**{"class": "lv"})
    long = pd.concat([csp, lv, csp.assign(seed=1)]).assign(subject=lambda table: table["case"])
    table = failures.counts(long).set_index("class")
    columns = ["cases", "in_reference", "low_dice", "missed", "invented", "failed"]
    # a class is tested in all five cases, whether or not the reference contains it
    assert table[columns].values.tolist() == [[5, 3, 1, 1, 1, 3], [5, 5, 1, 0, 0, 1], [5, 5, 2, 1, 1, 3]]
    low, high = stats.binomtest(3, 5).proportion_ci(method="wilson")
    bounds = table.loc["any", ["failed_percent", "failed_percent_low", "failed_percent_high"]].tolist()
    assert bounds == pytest.approx([60, 100 * low, 100 * high])
    clustered = failures.counts(long.assign(subject=long["case"].map({"c0": "s", "c1": "s"}).fillna(long["case"])))
    assert clustered["failed_percent"].tolist() == table["failed_percent"].tolist()
    assert clustered["failed_percent_high"].iloc[2] > table["failed_percent_high"].iloc[2]
    one = failures.counts(line_errors([1.0, 9.0]))
    assert one[["line", "cases", "gross_error", "missed", "failed"]].values.tolist() == [["ofd", 2, 1, 0, 1]]


def test_a_property_is_tested_by_counts_that_are_known_by_hand():
    # c0 to c5 fail; c0 to c9 are in group b, c10 to c19 in group a
    table = failures.causes(*heads(6, 14, stratum=["b"] * 10 + ["a x"] * 10))
    assert table["property"].tolist() == ["Group a"]  # its complement, group b, is no further test
    row = table.iloc[0]
    counted = ["cases", "listed", "other_cases", "other_listed"]
    assert row[counted].tolist() == [10, 0, 10, 6]
    assert row["p"] == pytest.approx(stats.fisher_exact([[0, 10], [6, 4]]).pvalue) == pytest.approx(420 / 38760)
    assert row["other_percent"] == pytest.approx(60)
    assert row["p_adjusted"] == row["p"]


def test_groups_are_named_with_their_heads_and_thirds_with_their_limits_and_p_counts_all_tests():
    hc = [60.0 + n for n in range(18)]
    groups = [f"hc{n // 6}" for n in range(18)]
    long, about, cases, _ = heads(6, 12, hc_mm=hc, stratum=groups, spacing_row_mm=0.1, spacing_col_mm=0.1)
    found = pd.DataFrame({"case": [f"c{n}" for n in range(18)], "check": ["low contrast"] * 9 + ["odd"] * 9})
    table = failures.causes(long, about, cases, found)
    names = table["property"].tolist()
    assert names[:2] == ["HC 60–65 mm", "Finding of verification: odd"]
    assert names[2:] == ["HC 66–71 mm", "HC 72–77 mm"]
    assert table["p"].is_monotonic_increasing
    assert table["p_adjusted"].tolist() == pytest.approx([min(1, 4 * p) for p in table["p"]])
    # the lowest third of HC is group hc0; pixels, sizes and contrasts are equal, so they have no thirds
    cases.loc[5, "hc_mm"] = 90.0
    assert "HC up to 66 mm (lowest third)" in set(failures.causes(long, about, cases, found)["property"])


@pytest.mark.parametrize(
    ("column", "values", "name"),
    [
        ("spacing", [0.1] * 10 + [0.3] * 5, "Pixel size from 0.300 mm (highest third)"),
        ("gap_percent", [1.0] * 5 + [3.0] * 10, "Within 2 % of the frame"),
        ("contrast", [-0.01] * 5 + [-0.5] * 10, "Contrast up to 0.01 (lowest third)"),
        ("share_percent", [1.0] * 5 + [3.0] * 10, "Share of the image up to 1 % (lowest third)"),
        ("lacking", [0.0] * 5 + [3.0] * 10, "A class is absent from the reference"),
    ],
)
def test_each_measured_property_is_tested(column, values, name):
    long, about, cases, found = heads(4, 11)
    if column == "spacing":
        cases["spacing_row_mm"] = cases["spacing_col_mm"] = values
    else:
        about["share_percent" if column == "lacking" else column] = values * 2
    rows = failures.causes(long, about, cases, found).set_index("property")
    expected = {"spacing": [5, 0, 10, 4]}.get(column, [5, 4, 10, 0])
    assert rows.loc[name, ["cases", "listed", "other_cases", "other_listed"]].tolist() == expected


def test_a_case_without_the_class_is_tested_whether_or_not_something_was_invented():
    # 5 cases without a lesion, of which 1 has an invention, and 11 with one; dropping those that are rightly empty
    # would leave only the failure, as if every case without a lesion failed
    long = overlap_rows([POOR] * 3 + [GOOD] * 8 + [(0, 9, 0)] + [(0, 0, 0)] * 4)
    about = structures({"csp": [4.0] * 11 + [0.0] * 5, listing.WHOLE: [4.0] * 11 + [0.0] * 5}).assign(contrast=0.5)
    table = failures.causes(long, about, manifest(16), NOTHING).set_index("property")
    row = table.loc["A class is absent from the reference", ["cases", "listed", "other_cases", "other_listed"]]
    assert row.tolist() == [5, 1, 11, 3]


def test_cases_whose_property_is_unknown_are_on_neither_side():
    long, about, cases, found = heads(4, 16)
    about.loc[about["case"].isin([f"c{n}" for n in range(5)]), ["contrast", "gap_percent"]] = float("nan")
    about.loc[about["case"].isin([f"c{n}" for n in range(5, 10)]), "gap_percent"] = 0.0
    row = failures.causes(long, about, cases, found).iloc[0]
    assert row[["cases", "listed", "other_cases", "other_listed"]].tolist() == [5, 0, 10, 1]  # c19 is among the worst


def test_too_few_cases_and_one_group_leave_nothing_to_test_and_no_failure_is_said():
    table = failures.causes(*heads(0, 4, stratum=["a", "a", "b", "b"]))
    assert table.columns.tolist() == failures.CAUSE_COLUMNS
    assert table.empty
    counts = failures.counts(heads(0, 4)[0].assign(subject=list("abcd")))
    text = captions.of_failures(counts, table, 1).replace(tables.KEEP, " ")
    assert text.startswith("None of 4 cases failed (0.0 % [0.0, 49.0]); the worst is listed.")
    assert "5 cases with it and 5 without" in text
    empty = overlap_rows([(0, 0, 0)] * 3)  # a class absent everywhere
    assert failures.counts(empty)[["cases", "in_reference", "failed"]].values.tolist() == [[3, 0, 0]]
    assert failures.causes(empty, *heads(0, 3)[1:]).empty
    assert "predicted, so none is listed." in captions.of_failures(failures.counts(empty), table, 0)
    assert failures.counts(empty.head(0)).empty
    assert "Nothing to judge" in captions.of_failures(failures.counts(empty.head(0)), table, 0)


def test_the_finding_names_what_is_associated_with_its_numbers():
    parts = heads(6, 14, stratum=["b"] * 6 + ["a"] * 14)
    parts = parts[0].assign(subject=parts[0]["case"]), *parts[1:]
    counts, causes = failures.counts(parts[0]), failures.causes(*parts)
    text = captions.of_failures(counts, causes, 6).replace(tables.KEEP, " ")
    assert text.startswith("6 of 20 cases failed (30.0 % [14.5, 51.9]): Dice below 0.7 in 6. They are listed. ")
    assert "Of 1 properties tested, 1 is associated" not in text
    assert "1 property was tested; 1 is associated with failing (p times 1 below 0.05)" in text
    assert (
        "“Group a”, 0 of 14 cases (0.0 % [0.0, 21.5]) against 6 of 6 others (100.0 % [61.0, 100.0]; p <0.001)" in text
    )
    assert text.endswith("; p <0.001).")  # 1 in 38,760
    nothing = captions.of_failures(counts, causes.assign(p_adjusted=0.05), 8)
    assert "the 2 worst of the others" in nothing
    assert "no association with being listed was shown" in nothing


def test_the_printed_worst_leave_out_columns_in_which_nothing_is_known():
    long, about, cases, found = heads(14, 1)
    listed = listing.failures(long, listing.properties(long, about, cases, found), about)
    table = failures.worst(listed)
    assert len(table) == 12
    assert table.columns.tolist() == ["case", "result", "kind", "share_percent", "contrast", "gap_percent", "group"]
