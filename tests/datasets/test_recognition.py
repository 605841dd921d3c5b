import os
import shutil

import numpy as np
import pytest

from lib.datasets import recognition
from lib.datasets.phantoms import cache
from lib.study import files
from tests import builders, builders_brain
from tests.builders import save_png

DOTS = np.kron(np.eye(2, dtype=np.uint8), np.full((8, 8), 255, np.uint8))


def write_own(folder, count=3):
    for number in range(count):
        for part in ("images", "masks"):
            save_png(folder / part / f"a{number}.png", DOTS)
    return folder


def write_busi(folder, count=4):
    for number in range(count):
        for ending in ("", "_mask"):
            save_png(folder / "benign" / f"benign ({number}){ending}.png", np.full((4, 4), 255, np.uint8))
    return folder


@pytest.fixture
def parent(tmp_path):
    """A folder with five data sets below it, one of them two levels deep, one generated."""
    builders.write_hc18(tmp_path / "heads", builders.heads(3))
    builders.write_lgg(tmp_path / "lgg")
    write_own(tmp_path / "my thesis" / "ovaries")
    write_busi(tmp_path / "lesions" / "Dataset_BUSI_with_GT")
    (tmp_path / "points" / "multicentre" / "HC18").mkdir(parents=True)
    (tmp_path / "points" / "multicentre" / "HC18" / "Head.csv").write_text("")
    return tmp_path


def refusal(folder):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (tests check the text)
        recognition.recognise(folder)
    return str(caught.value)


def test_every_layout_has_its_signs():
    assert set(recognition.SIGNS) == {"own", "landmarks", *recognition.PUBLISHED}


def test_each_layout_is_recognised_and_their_parent_lists_them_with_commands(parent):
    expected = {"heads": "hc18", "lesions": "busi", "lgg": "lgg", "my thesis/ovaries": "own", "points": "landmarks"}
    assert {name: recognition.recognise(parent / name) for name in expected} == expected
    first, *lines = refusal(parent).splitlines()
    assert first == f"{parent}: not a data set itself; below it:"
    assert [line.split("#")[1].strip() for line in lines] == [recognition.title(name) for name in expected.values()]
    assert f"    python -m lib verify '{parent}/my thesis/ovaries'   # Own data" in lines
    # Two folders up is too far for what is not nested by its publisher.
    assert refusal(parent / "my thesis").endswith(f"python -m lib verify '{parent}/my thesis/ovaries'   # Own data")


def test_a_generated_folder_is_a_phantom_under_any_name_and_never_found_through_its_parents(parent):
    (parent / "heads" / cache.RECORD).write_text("{}")
    assert recognition.recognise(parent / "heads") == "phantom_hc18"
    (parent / "heads").rename(parent / "phantom_landmarks")
    assert recognition.recognise(parent / "phantom_landmarks") == "phantom_landmarks"
    inner = parent / "a" / "b" / "c" / "d" / "Trans-thalamic"
    inner.mkdir(parents=True)
    (inner.parent / cache.RECORD).write_text("{}")
    save_png(inner / "Segmentation" / "SegmentationClass" / "Patient00001_Plane3_1_of_1.png", np.dstack([DOTS] * 3))
    save_png(inner / "Patient00001_Plane3_1_of_1.png", DOTS)
    assert recognition.recognise(inner.parent) == "phantom_brain"
    assert "no data set is known by these names: b" in refusal(parent / "a")
    (inner.parent / cache.RECORD).unlink()
    assert recognition.recognise(parent / "a") == "brain_structures"  # nested by its publisher
    (inner.parents[3] / "lgg").symlink_to(parent / "lgg")
    (inner.parents[3] / "planes").symlink_to(inner.parent)
    assert refusal(parent / "a").count("python -m lib verify") == 2  # of two, none hides the other


def test_of_two_layouts_in_one_folder_the_one_with_more_cases_is_recognised(tmp_path):
    builders.write_hc18(tmp_path, builders.heads(3))
    inner = write_busi(tmp_path / "Dataset_BUSI_with_GT")
    assert [recognition.recognise(folder) for folder in (inner, tmp_path)] == ["busi", "busi"]
    for number in range(2):
        (inner / "benign" / f"benign ({number}).png").unlink()
    assert recognition.recognise(tmp_path) == "hc18"
    shutil.rmtree(inner)
    for path in (tmp_path / "training_set").glob("*_Annotation.png"):
        path.unlink()
    assert recognition.recognise(tmp_path) == "hc18"  # without a complete case


EXPECTED = "expected images/ and masks/ of your own (docs/howto-own-data.md), or a published data set as unpacked: hc18"


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ([], "", f"the folder is empty; {EXPECTED}"),
        ([".DS_Store"], "", f"the folder is empty; {EXPECTED}"),
        ([], "hc19", "no such folder"),
        (["hc18/a"], "hc19", "no such folder; nearest: hc18"),
        (["hc18.zip"], "hc18.zip", "a file; expected the folder of a data set (unpack it)"),
        (["a.png"], "a.png", "a file; expected the folder of a data set (name its folder)"),
        (["hc18.zip"], "", "no data set is known by these names: hc18.zip; unpack hc18.zip first"),
        (["holiday/beach.txt"], "", f"no data set is known by these names: holiday; {EXPECTED}"),
        (["a.png", "b.png", "c.txt"], "", f"2 image files, no folder of masks; {EXPECTED}"),
        (["images/a.png"], "", "not complete as Own data: found ['images']; expected one folder of images"),
        (
            ["training_set/001.txt"],
            "",
            "not complete as HC18, fetal head circumference: no images such as training_set/",
        ),
        (["masks/a.png", "images/a.png"], "images", "a part of Own data; verify the whole: python -m lib verify {}"),
    ],
)
def test_anything_else_has_one_message_with_what_was_found_and_what_to_do(tmp_path, content, name, message):
    for each in content:
        files.write_text(tmp_path / each, "")
    text = refusal(tmp_path / name)
    assert text.startswith(f"{tmp_path / name}: {message.format(tmp_path)}")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("Label,Pixel in mm\na.png,0,1\n", "row 2: 3 fields; expected 2"),
        ("Label,Pixel in mm\nGröße.png,0.1\n".encode("cp1252"), "row 2: byte 0xf6 is not utf-8"),
        (None, "a workbook, which is not read"),
    ],
)
def test_a_fault_in_a_table_comes_before_the_list_of_what_is_below(tmp_path, content, reason):
    builders_brain.write_all(tmp_path)
    table = tmp_path / "Trans-ventricular" / "Trans-ventricular-Pixel-Size.csv"
    if content is None:
        table = table.rename(table.with_suffix(".xlsx"))
    else:
        table.write_bytes(content if isinstance(content, bytes) else content.encode())
    first, *others = refusal(tmp_path).splitlines()
    title = recognition.title("brain_structures")
    assert first.startswith(f"{tmp_path}: not complete as {title}: {table}")
    assert reason in first
    assert first.endswith("; below it:")
    assert others


def test_the_project_is_not_a_data_set_and_names_what_is_linked(parent, tmp_path_factory, monkeypatch):
    project = tmp_path_factory.mktemp("project")
    monkeypatch.setattr(files, "ROOT", project)
    (project / "data").mkdir()
    assert refusal(project).startswith(f"{project}: the folder of this project, not a data set; {EXPECTED}")
    (project / "data" / "raw").symlink_to(parent)
    assert f"python -m lib verify {project}/data/raw/heads " in refusal(project)
    assert project.name not in "".join(str(path) for path, _ in recognition.below(project.parent))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_subfolder_that_may_not_be_read_is_passed_over(parent):
    (parent / "lgg").chmod(0)
    assert "lgg" not in refusal(parent)
    (parent / "lgg").chmod(0o700)
