import pytest

from lib.study import files, params, study_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A params/ with the demo and the two quick studies of HC18."""
    for name in ("demo", "hc18_quick", "hc18_segnet_quick"):
        (tmp_path / f"{name}.yaml").write_bytes(files.study_file(name).read_bytes())
    monkeypatch.setattr(files, "study_file", lambda name: tmp_path / f"{name}.yaml")
    return tmp_path


def test_a_new_study_is_a_copy_with_comments_under_its_own_name(folder):
    path, lines = study_files.new("hc18_mine", like="hc18_quick")
    mine, other = params.read_study(path), params.read_study(folder / "hc18_quick.yaml")
    assert params.values_of(mine) == params.values_of(other) | {"study": "hc18_mine"}
    before, after = ((folder / f"{name}.yaml").read_text().splitlines() for name in ("hc18_quick", "hc18_mine"))
    assert sum(one != new for one, new in zip(before, after, strict=True)) == 1
    assert "folds: [0]" in lines
    assert not any(line.startswith("epochs") for line in lines)


@pytest.mark.parametrize(
    ("name", "like", "fault"),
    [
        ("demo", "hc18_quick", r"demo\.yaml: already exists"),
        ("../demo2", "hc18_quick", r"study = '\.\./demo2'   not allowed; .* a-z, 0-9, _"),
        ("demo2", "dem", r"dem\.yaml: no such study file; .*nearest: demo"),
    ],
)
def test_a_new_study_never_overwrites_a_file_or_leaves_the_folder_and_needs_a_valid_original(folder, name, like, fault):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=fault):
        study_files.new(name, like)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


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
