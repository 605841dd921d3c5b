import pandas as pd
import pytest
import yaml

from lib import datasets
from lib.data import findings
from lib.report import build, literature, materials
from lib.study import files
from lib.verification.landmark_audit import NO_LANDMARKS

HC18 = datasets.DATASETS["hc18"]
COLUMNS = ["severity", "check", "case", "found", "expected", "advice"]
NOTHING = pd.DataFrame(columns=COLUMNS)


def images(count: int) -> pd.DataFrame:
    return pd.DataFrame({"case": range(count), "subject": [index // 2 for index in range(count)]})


def test_a_flow_counts_from_published_over_excluded_to_included_cases():
    text = "7 of 50 cases (14 %): 000_HC: left out"
    without = findings.to_table([findings.Finding("warn", NO_LANDMARKS, "landmarks", text, "a row for each image")])
    assert materials.describe_flow("hc18", HC18, images(40), without, 3) == {
        "published": {"cases": 999, "subjects": 806},
        "absent": 949,
        "available": 50,
        "excluded": [
            {"reason": "named in the study file", "cases": 3},
            {"reason": "without landmarks", "cases": 7},
        ],
        "included": {"cases": 40, "subjects": 20},
    }


def test_a_flow_of_all_published_cases_has_no_absent_ones_and_that_of_a_phantom_no_published_ones():
    whole = materials.describe_flow("hc18", HC18, images(999), NOTHING, 0)
    assert (whole["absent"], whole["available"], whole["excluded"]) == (None, 999, [])
    phantom = materials.describe_flow("phantom_hc18", datasets.DATASETS["phantom_hc18"], images(9), NOTHING, 1)
    assert (phantom["published"], phantom["absent"], phantom["available"]) == (None, None, 10)


def test_parts_are_those_of_the_one_tested_fold_else_folds_else_all_tested_cases():
    table = pd.DataFrame({"case": list("abcdefgh"), "subject": list("abcdefgh"), "fold_group": list("abcdefgh")})
    table = table.assign(fold=[0, 0, 1, 1, 2, 2, 3, 3], validates=[True, True, True, False, True, True, True, True])
    one = {"Training": list("defgh"), "Validation": ["c"], "Test": ["a", "b"], "All": list("abcdefgh")}
    assert materials.parts_of(table, [0], 4) == one
    assert list(materials.parts_of(table, [0, 2], 4)) == ["Fold 0", "Fold 1", "Fold 2", "Fold 3", "All"]
    assert materials.parts_of(table, [1, 3], materials.FEW_FOLDS + 1)["Tested"] == list("cdgh")


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_every_data_set_has_a_short_name_and_facts_or_what_is_drawn(name):
    source = materials.describe_source(name, datasets.DATASETS[name])
    assert source["short_name"]
    is_phantom = datasets.DATASETS[name].phantom is not None
    assert source["kind"] == ("phantom" if is_phantom else "published")
    assert bool(source["drawn"]) == is_phantom
    assert bool(source["facts"]) != is_phantom
    assert source["record"].startswith("https://") != is_phantom


def test_own_data_have_no_facts_and_only_hospitals_are_called_institutions():
    own = datasets.custom("mine", ["background", "cyst"], [])
    assert materials.describe_source("own_mine", own)["facts"] == {}
    words = {name: materials.describe_source(name, each)["group_word"] for name, each in datasets.DATASETS.items()}
    assert [name for name, word in words.items() if word == "institution"] == ["lgg"]
    assert words["phantom_lgg"] == "simulated group"


def test_published_results_stand_beside_published_data_only_and_landmark_studies_need_more_than_a_dice():
    assert len(materials.published_results("lgg", datasets.DATASETS["lgg"], False)) == 3
    assert materials.published_results("phantom_lgg", datasets.DATASETS["phantom_lgg"], False) == []
    assert materials.published_results("own_x", datasets.custom("x", ["background", "cyst"], []), False) == []
    assert materials.published_results("lgg", datasets.DATASETS["lgg"], True) == []


def test_every_published_result_belongs_to_a_data_set_and_is_in_the_bibliography():
    results = literature.read_results()
    assert results.keys() <= datasets.DATASETS.keys()
    entries = (build.TEMPLATE / "references.bib").read_text(encoding="utf-8")
    assert all(f"{{{row.citation}," in entries for rows in results.values() for row in rows)


def test_faults_of_published_results_are_named_with_row_key_value_and_what_is_allowed(tmp_path):
    row = literature.read_results()["lgg"][0].model_dump()
    path = tmp_path / "published.yaml"
    faulty = [row | {"dice": "82 %"}, row | {"dice": None}, {key: row[key] for key in row if key != "n"}]
    path.write_text(yaml.safe_dump({"lgg": [*faulty, row | {"note": "x"}]}, allow_unicode=True))
    with pytest.raises(ValueError, match=r"published\.yaml: 4 errors") as raised:
        literature.read_results(path)
    message = str(raised.value)
    for part in ("lgg.0.dice = '82 %'", "lgg.1   no value; expected one of dice", "lgg.2.n   Field required"):
        assert part in message
    assert "lgg.3.note = 'x'" in message
    with pytest.raises(ValueError, match="missing; this file lists published results"):
        literature.read_results(tmp_path / "none.yaml")


def test_the_licence_that_the_statements_name_is_that_of_the_project():
    assert (files.ROOT / "LICENSE").read_text().startswith("MIT License")
    assert "under the MIT licence" in (build.TEMPLATE / "statements.typ").read_text(encoding="utf-8")
