import re

import pytest

from lib.study import files, params, study_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A params/ with the demo and the two quick studies of HC18."""
    for name in ("demo", "hc18_quick", "hc18_segnet_quick"):
        (tmp_path / f"{name}.yaml").write_bytes(files.study_file(name).read_bytes())
    monkeypatch.setattr(files, "study_file", lambda name: tmp_path / f"{name}.yaml")
    return tmp_path


@pytest.mark.parametrize("name", ["hc18_mine", "2026_11", "007", "on"])  # the others are no text in YAML without quotes
def test_a_new_study_is_a_copy_with_comments_under_its_own_name(folder, name):
    path, lines = study_files.new(name, like="hc18_quick")
    mine, other = params.read_study(path), params.read_study(folder / "hc18_quick.yaml")
    assert params.values_of(mine) == params.values_of(other) | {"study": name}
    before, after = ((folder / f"{name}.yaml").read_text().splitlines() for name in ("hc18_quick", name))
    assert sum(one != new for one, new in zip(before, after, strict=True)) == 1
    assert "folds: [0]" in lines
    assert not any(line.startswith("epochs") for line in lines)


@pytest.mark.parametrize(
    ("name", "like", "fault"),
    [
        ("demo", "hc18_quick", r"demo\.yaml: already exists"),
        ("../demo2", "hc18_quick", r"study = '\.\./demo2'   not allowed; .* a-z, 0-9, _"),
        ("demo2", "dem", r"dem\.yaml: no such study file; nearest: demo"),
    ],
)
def test_a_new_study_never_overwrites_a_file_or_leaves_the_folder_and_needs_a_valid_original(folder, name, like, fault):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=fault):
        study_files.new(name, like)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("text", ["demo", "demo.yaml", "params/demo", "params/demo.yaml", "./params/demo.yaml"])
def test_a_study_may_be_named_as_its_file(folder, text):
    assert study_files.study_name(text) == "demo"


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("../params/demo", "; nearest: demo"),
        ("params/../demo.yaml", "; nearest: demo"),
        ("params/params/demo.yaml", "; nearest: demo"),
        ("HC18", "; nearest: hc18_quick, hc18_segnet_quick"),
        ("/etc/passwd", "; for example demo, hc18_quick, hc18_segnet_quick"),
        ("", "; for example demo"),
    ],
)
def test_anything_else_is_refused_with_the_nearest_studies(folder, text, nearest):
    allowed = "not the name of a study; expected a-z, 0-9, _, such as demo or params/demo.yaml"
    with pytest.raises(ValueError, match=re.escape(f"{text!r}: {allowed}{nearest}")):
        study_files.study_name(text)


def test_studies_are_found_by_a_value_quick_ones_first_and_a_new_name_is_free(folder):
    study_files.new("a", like="hc18_quick")
    assert study_files.names() == ["demo", "hc18_quick", "hc18_segnet_quick", "a"]
    assert study_files.with_value("dataset", "hc18") == ["hc18_quick", "hc18_segnet_quick", "a"]
    assert study_files.with_value("dataset", "hc") == []
    assert study_files.name_from("a" * 300) == "a" * study_files.MAX_PROPOSED
    assert [study_files.name_from(text) for text in ("Ovaries 2", "A", "漢", "demo")] == [
        "ovaries_2",
        "a_2",
        "mine",
        "demo_2",
    ]


def test_a_written_study_has_its_values_and_a_reason_or_the_description_as_comment(folder):
    values = params.values_of(params.read_study(folder / "hc18_quick.yaml")) | {"study": "mine", "author": "A: 漢, no"}
    path = study_files.write(values, {"epochs": "few"}, "Mine.")
    assert params.values_of(params.read_study(path)) == values
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Mine."
    assert "epochs: 24                       # few" in lines
    assert "depth: 4                         # number of downsampling steps, 1 to 6" in lines
    assert lines[lines.index("precision: auto") - 1].startswith("# training precision: auto (chosen for the device), ")
    assert [line[6:] for line in lines if line.startswith("# --- ")] == ["all notebooks", *params.STEPS]
    named = [lines[number - 1].partition(":")[0] for number in study_files.lines_with("mine", ["HC18", "few", "ore"])]
    assert named == ["epochs", "title"]  # whole words only
    with pytest.raises(ValueError, match=r"mine\.yaml: already exists"):
        study_files.write(values, {}, "")
    with pytest.raises(ValueError, match=r"(?s)params/other\.yaml: 1 error.*batch_size   missing"):
        study_files.write({k: v for k, v in values.items() if k != "batch_size"} | {"study": "other"}, {}, "")
    assert not (folder / "other.yaml").exists()


def test_diff_prints_one_line_per_differing_key_and_a_dash_for_an_unused_one(folder):
    lines = [line.split() for line in study_files.diff("hc18_quick", "hc18_segnet_quick")]
    assert lines[0] == ["key", "hc18_quick", "hc18_segnet_quick"]
    assert ["epochs", "24", "40"] in lines
    assert ["warm_up_fraction", "0.3", "-"] in lines
    assert ["plateau_factor", "-", "0.3"] in lines
    assert not {"study", "batch_size", "dataset"} & {line[0] for line in lines}
    assert len(study_files.diff("demo", "demo")) == 1


def test_the_howto_shows_the_output_of_the_commands(folder):
    howto = (files.ROOT / "docs" / "howto-study.md").read_text(encoding="utf-8")
    assert "\n".join(study_files.diff("hc18_quick", "hc18_segnet_quick")) in howto
    _, lines = study_files.new("hc18_cosine", like="hc18_quick")
    assert "\n".join(["review these keys:", *(f"    {line}".rstrip() for line in lines)]) in howto
