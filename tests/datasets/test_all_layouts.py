"""What must hold for every layout alike: files of the system among the data, and files that may not be read."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib import __main__ as command
from lib import datasets
from lib.data import cases
from lib.datasets import landmark_tables, own
from lib.report import folder_check  # noqa: F401 (imported before the right to read the project may be lost)
from lib.study import files
from lib.verification import case_checks
from tests import builders, builders_brain, builders_busi
from tests.datasets import test_landmark_tables

BLOCK = np.pad(np.full((4, 4), 255, np.uint8), 4)
NOBODY = 65534
FILES = (".DS_Store", "Thumbs.db", "Desktop.ini", "~$cases.xlsx", "Icon\r", "a.png:Zone.Identifier")
FOLDERS = ("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", "lost+found")
FOLDERS += (".Trash-1000", ".ipynb_checkpoints")


def write_tumour(folder):
    for name in ("1_HC", "1_HC_Annotation"):
        builders.save_png(folder / "train" / "benign" / f"{name}.png", BLOCK)
    return folder


def write_own(folder):
    for name in ("images/a.png", "masks/a.png"):
        builders.save_png(folder / name, BLOCK)
    (folder / "cases.csv").write_text("name,subject,spacing_mm\na,x,0.1\n")
    return folder


def write_lgg(folder):
    builders.write_lgg(folder)
    patients = [path.name for path in sorted(folder.rglob("TCGA*")) if path.is_dir()]
    rows = [f"{name},1,1,5" for name in patients]
    (folder / "kaggle_3m" / "spacing.csv").write_text("\n".join(["patient,row_mm,col_mm,slice_mm", *rows]))
    return folder


WRITERS = {
    "hc18": lambda folder: builders.write_hc18(folder, builders.heads(2)),
    "lgg": write_lgg,
    "busi": lambda folder: builders_busi.write_busi(folder, benign=[(BLOCK, BLOCK)] * 2),
    "brain_structures": builders_brain.write_all,
    "ultrasound_fetus": write_tumour,
    "own": write_own,
    "landmarks": lambda folder: test_landmark_tables.write(folder, test_landmark_tables.FIRST),
}


def find(name, folder):
    if name == "landmarks":
        (table,) = landmark_tables.tables(folder)
        points, findings = landmark_tables.read(folder, *table)
        return points.values.tolist(), [], files.cached_hashes(folder, folder.parent / "hashes.json"), findings
    dataset = (
        replace(datasets.DATASETS["hc18"], find_cases=own.find_cases) if name == "own" else datasets.DATASETS[name]
    )
    groups = [group for group in dataset.groups if name not in ("busi", "ultrasound_fetus") or group == "benign"]
    found, findings = datasets.find_cases(dataset, folder, groups)
    hashes = [cases.content_hash(case.image, case.mask) for case in found]
    return found, hashes, files.cached_hashes(folder, folder.parent / "hashes.json"), findings


def scatter(folder):
    """Writes files of the system to a folder and all below it, with copies of its files; returns their number."""
    own_files = [path for path in folder.iterdir() if path.is_file()]
    below = [scatter(path) for path in folder.iterdir() if path.is_dir()]
    for name in FILES:
        (folder / name).write_bytes(b"\0\5\26\7")
    for name in FOLDERS:
        (folder / name).mkdir()
        for path in own_files:
            shutil.copy(path, folder / name)
    for path in own_files:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")
    return len(FILES) + len(FOLDERS) + len(own_files) + sum(below)


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_the_system_are_passed_over_in_one_note_and_change_no_case_and_no_hash(tmp_path, name):
    folder = WRITERS[name](tmp_path / ".data" / "@eaDir" / "lost+found" / "raw")  # where a folder lies does not matter
    *before, findings = find(name, folder)
    assert before[0]
    count = scatter(folder)
    *after, more = find(name, folder)
    assert after == before
    (note,) = [finding for finding in more if finding not in findings]
    assert len(more) == len(findings) + 1
    assert (note.severity, note.check.name, note.case) == ("note", "system files", "raw")
    assert note.found == f"{count} passed over: #recycle, $RECYCLE.BIN, .DS_Store, …"


@pytest.mark.parametrize("name", WRITERS)
def test_folders_that_are_links_are_read_hashed_and_searched_for_files_of_the_system_like_any_other(tmp_path, name):
    folder, store = WRITERS[name](tmp_path / "raw"), tmp_path / "store"
    before = find(name, folder)
    store.mkdir()
    for path in [path for path in folder.iterdir() if path.is_dir()]:
        path.rename(store / path.name)
        path.symlink_to(store / path.name)
    after = find(name, folder)
    assert after == before
    path = next(path for path in sorted(store.rglob("*")) if path.is_file())
    path.write_bytes(path.read_bytes() + b"\n")
    path.with_name(".DS_Store").touch()
    *_, hashes, findings = find(name, folder)
    changed = {key for key, value in hashes.items() if before[2][key] != value}
    assert changed == {path.relative_to(store).as_posix()}
    assert "system files" in {finding.check.name for finding in findings}


def test_a_hidden_image_among_images_is_a_warning_and_the_twin_of_a_mac_is_not(tmp_path):
    folder = write_own(tmp_path / "raw")
    for name in ("images/.b.png", ".c.png", ".old/d.png"):
        builders.save_png(folder / name, BLOCK)  # the last two are not among images
    (folder / "images" / "._a.png").write_bytes(b"\0\5\26\7")
    found = [(f.severity, f.check.name, f.found) for f in find("own", folder)[-1]]
    assert found == [
        ("note", "system files", "4 passed over: .c.png, .old, images/._a.png, …"),
        ("warn", "hidden images", "1 passed over: images/.b.png"),
    ]


@contextmanager
def without_the_right_to_read(path):
    """Nobody may read the file or folder; root, who may read everything, is somebody else meanwhile."""
    mode, is_root = path.stat().st_mode, os.geteuid() == 0
    path.chmod(0)
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        path.chmod(mode)


@pytest.fixture
def public():
    """A temporary folder whose path all users may follow."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "raw"


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("hc18", ["*.csv", "training_set"]),
        ("lgg", ["kaggle_3m/spacing.csv", "kaggle_3m", "kaggle_3m/TCGA*"]),
        ("busi", ["benign"]),
        ("brain_structures", ["Trans-thalamic/*.csv", "Trans-thalamic", "*/*/SegmentationClass"]),
        ("ultrasound_fetus", ["train", "train/benign"]),
        ("own", ["cases.csv", "masks", "images"]),
        ("landmarks", ["multicentre/HC18/Head.csv", "multicentre/HC18", "multicentre"]),
    ],
)
def test_a_table_or_folder_that_may_not_be_read_is_named(public, name, patterns):
    folder = WRITERS[name](public)
    for path in (next(folder.glob(pattern)) for pattern in patterns):
        with without_the_right_to_read(path), pytest.raises(PermissionError) as error:
            find(name, folder)
        assert Path(error.value.filename) == path


def test_the_command_names_a_file_that_may_not_be_read_but_none_below_an_unknown_folder(public, capsys):
    folder = WRITERS["hc18"](public)
    for path in (folder / "training_set_pixel_size_and_HC.csv", folder / "training_set"):
        with without_the_right_to_read(path):
            assert command.main(["verify", str(folder)]) == 2
        assert capsys.readouterr().err == f"{path}: Permission denied (ask its owner, or chmod)\n"
    (folder.parent / "other" / "deep" / "masks").mkdir(parents=True)
    for name in ("closed", "images"):
        path = folder.parent / "other" / "deep" / name
        path.mkdir()
        with without_the_right_to_read(path):
            assert command.main(["verify", str(folder.parent / "other")]) == 2
        assert "other: no data set is known by these names: deep" in capsys.readouterr().err


def test_a_copy_of_a_table_that_may_not_be_read_is_a_warning(public):
    folder = WRITERS["own"](public)
    copy = shutil.copy(folder / "cases.csv", folder / "cases (1).csv")
    with without_the_right_to_read(copy):
        (finding,) = [each for each in own.find_cases(folder, ())[1] if each.check.name == "another table"]
    assert (finding.severity, finding.case) == ("warn", "cases (1).csv")
    assert finding.found == "not read: Permission denied (ask its owner, or chmod)"


def test_an_image_that_may_not_be_read_is_a_finding_of_its_case(public):
    case = find("hc18", WRITERS["hc18"](public))[0][0]
    for path in (case.image, case.mask[0]):
        with without_the_right_to_read(path):
            (finding,) = case_checks.check_case(case, datasets.DATASETS["hc18"]).findings
        assert (finding.severity, finding.check.name, finding.case) == ("stop", "unreadable", case.name)
        assert finding.found.startswith(f"{path}: cannot be read as an image: ")
        assert "Permission denied" in finding.found
