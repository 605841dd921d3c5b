import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lib.study import files

WRITE_HALF_AND_WAIT = """
import sys
from pathlib import Path
from lib.study import files
with files.replacing(Path(sys.argv[1])) as temporary:
    with temporary.open("wb") as file:
        file.write(b"new" * 1000)
        file.flush()
        print("half", flush=True)
        sys.stdin.read()
"""
WRITE_HALF_A_FOLDER_AND_WAIT = """
import sys
from pathlib import Path
from lib.study import files
with files.replacing_folder(Path(sys.argv[1])) as working:
    (working / "half.txt").write_text("half")
    print("half", flush=True)
    sys.stdin.read()
"""
WRITE_TO_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from lib.study import files
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    getattr(files, sys.argv[2])(Path(sys.argv[1]), eval(sys.argv[3]))
except OSError as error:
    sys.exit(f"OSError {error.errno}: {error.filename}")
"""


def run(script, *arguments, **options):
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], cwd=files.ROOT, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def kill_at_half(script, path):
    """Runs a script that writes half of what is to lie at a path, and kills it there."""
    command = [sys.executable, "-c", script, str(path)]
    child = subprocess.Popen(command, cwd=files.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL


def test_a_process_killed_in_the_middle_of_a_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    kill_at_half(WRITE_HALF_AND_WAIT, path)
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("function", "content"),
    [
        ("write_bytes", "bytes(100_000)"),
        ("write_text", "'x' * 100_000"),
        ("write_json", "list(range(100_000))"),
        ("write_csv", "__import__('pandas').DataFrame({'a': range(100_000)})"),
    ],
)
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, function, content):
    path = tmp_path / "old.csv"
    path.write_text("old")
    ended = run(WRITE_TO_A_FULL_DISK, path, function, content, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.strip() == f"OSError 27: {path}"
    assert path.read_text() == "old"
    assert names(tmp_path) == ["old.csv"]


def test_a_full_disk_leaves_nothing_where_nothing_was(tmp_path):
    ended = run(WRITE_TO_A_FULL_DISK, tmp_path / "new", "write_bytes", "bytes(100_000)", capture_output=True)
    assert ended.returncode == 1
    assert names(tmp_path) == []


def test_an_exception_in_the_block_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), files.replacing(path) as temporary:
        temporary.write_bytes(b"new" + "no bytes")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_written_file_replaces_the_old_one_and_leaves_no_other(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    files.write_text(path, "old")
    files.write_text(path, "new\n")
    assert path.read_bytes() == b"new\n"
    assert names(path.parent) == ["a.txt"]


def test_a_reader_of_the_old_file_reads_it_to_its_end(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with path.open() as reader:
        files.write_text(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_written_file_has_the_permissions_that_the_user_wants(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


# Folders


@pytest.fixture
def folder(tmp_path):
    """A folder with a file of before."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old.txt").write_text("old")
    return tmp_path / "made"


def write_new(folder):
    with files.replacing_folder(folder) as working:
        assert names(working) == []
        (working / "new.txt").write_text("new")


def write_half(folder, error):
    with files.replacing_folder(folder) as working:
        (working / "half.txt").write_text("half")
        raise error


def test_a_written_folder_takes_the_place_of_the_old_one_and_leaves_no_other(folder):
    write_new(folder)
    assert names(folder) == ["new.txt"]
    assert (folder / "new.txt").read_text() == "new"
    assert names(folder.parent) == ["made"]


def test_a_folder_is_written_where_there_was_none(tmp_path):
    write_new(tmp_path / "deep" / "made")
    assert names(tmp_path / "deep" / "made") == ["new.txt"]
    assert names(tmp_path / "deep") == ["made"]


def test_the_old_folder_stays_until_the_block_ends(folder):
    with files.replacing_folder(folder) as working:
        (working / "new.txt").write_text("new")
        assert names(folder) == ["old.txt"]
    assert names(folder) == ["new.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no space left")])
def test_an_exception_in_the_block_leaves_the_old_folder_and_no_other(folder, error):
    with pytest.raises(type(error)):
        write_half(folder, error)
    assert names(folder) == ["old.txt"]
    assert (folder / "old.txt").read_text() == "old"
    assert names(folder.parent) == ["made"]


def test_an_exception_in_the_block_leaves_no_folder_where_there_was_none(tmp_path):
    with pytest.raises(OSError, match="no space left"):
        write_half(tmp_path / "made", OSError("no space left"))
    assert names(tmp_path) == []


def test_a_process_killed_in_the_middle_of_a_folder_leaves_the_old_one_and_the_next_write_is_whole(folder):
    kill_at_half(WRITE_HALF_A_FOLDER_AND_WAIT, folder)
    assert names(folder) == ["old.txt"]
    assert names(folder.parent) == [".writing-made", "made"]  # it was killed in the middle
    write_new(folder)
    assert names(folder) == ["new.txt"]
    assert names(folder.parent) == ["made"]


def test_what_a_kill_left_between_both_renames_is_removed_by_the_next_write(folder):
    folder.rename(folder.with_name(".replaced-made"))
    folder.with_name(".writing-made").mkdir()
    write_new(folder)
    assert names(folder) == ["new.txt"]
    assert names(folder.parent) == ["made"]


# Text and JSON


def test_text_is_utf_8_with_unix_line_ends(tmp_path):
    files.write_text(tmp_path / "a.txt", "Größe\n")
    assert (tmp_path / "a.txt").read_bytes() == "Größe\n".encode()


def test_equal_values_are_equal_json_bytes_whatever_the_order_of_keys(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": {"y": None, "x": "ü"}})
    files.write_json(tmp_path / "b.json", {"a": {"x": "ü", "y": None}, "b": [1, 2.5]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_json_is_typed_out_as_expected(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": [0.1]})
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  0.1\n ],\n "b": 1\n}\n'


def test_json_without_a_meaning_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", {"dice": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff\xfe"])
def test_broken_json_is_named(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json: no JSON"):
        files.read_json(tmp_path / "run.json")


def test_a_table_s_bytes_are_stable_and_its_floats_come_back_exactly(tmp_path):
    table = pd.DataFrame({"case": ["007_HC", "a,b"], "mm": [0.1 + 0.2, np.pi], "n": [1, 2]})
    for name in ("a.csv", "b.csv"):
        files.write_csv(tmp_path / name, table)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    pd.testing.assert_frame_equal(files.read_csv(tmp_path / "a.csv", ["case"]), table, check_exact=True)


def test_a_table_is_typed_out_as_expected(tmp_path):
    files.write_csv(tmp_path / "a.csv", pd.DataFrame({"case": ["x", "y"], "dice": [0.5, np.nan]}))
    assert (tmp_path / "a.csv").read_bytes() == b"case,dice\nx,0.5\ny,\n"


@pytest.mark.parametrize("text", ["007", "NA", "None", "nan", "null", "N/A", "n/a", "NULL", "#N/A", "inf", "True", "-"])
def test_text_is_text_whatever_it_says(tmp_path, text):
    table = pd.DataFrame({name: [text, "010"] for name in files.TEXT_COLUMNS})
    files.write_csv(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(files.read_csv(tmp_path / "a.csv", []), table)


def test_an_empty_cell_is_a_missing_number_or_an_empty_note_and_no_name(tmp_path):
    (tmp_path / "a.csv").write_text("case,stratum,mm,n,best\nNA,,,3,True\nb,x,inf,4,False\n")
    table = files.read_csv(tmp_path / "a.csv", [])
    expected = {"case": ["NA", "b"], "stratum": ["", "x"], "mm": [np.nan, np.inf], "n": [3, 4], "best": [True, False]}
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected))


@pytest.mark.parametrize("name", ["case", "subject", "fold_group", "class"])
def test_an_empty_name_is_refused_with_its_file_and_row(tmp_path, name):
    (tmp_path / "a.csv").write_text(f"{name},mm\nx,1\n,2\n")
    with pytest.raises(ValueError, match=rf"a\.csv, column {name}, row 3: empty; expected a name"):
        files.read_csv(tmp_path / "a.csv", [])


@pytest.mark.parametrize("cell", ["nan", "NA", "1,5", "1_000", "3 mm", "-"])
def test_what_is_no_number_is_refused_with_its_file_row_and_column(tmp_path, cell):
    (tmp_path / "a.csv").write_text(f'case,mm\nx,1\ny,"{cell}"\n')
    with pytest.raises(ValueError, match=rf"a\.csv, column mm, row 3: '{cell}'; expected a number"):
        files.read_csv(tmp_path / "a.csv", [])


@pytest.mark.parametrize("number", [0.1 + 0.2, 1e-320, -np.pi, 5e22, 123456789.123456789])
def test_numbers_come_back_to_the_last_digit(tmp_path, number):
    files.write_csv(tmp_path / "a.csv", pd.DataFrame({"mm": [number]}))
    assert files.read_csv(tmp_path / "a.csv", [])["mm"].item() == number


def test_a_missing_table_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"folds\.csv: missing; run the notebook that writes it first"):
        files.read_csv(tmp_path / "folds.csv", ["case"])


def test_a_table_without_a_column_names_it_and_those_there_are(tmp_path):
    (tmp_path / "a.csv").write_text("case,dice\n")
    with pytest.raises(ValueError, match=r"a\.csv: columns \['fold'\] are missing; found \['case', 'dice'\]"):
        files.read_csv(tmp_path / "a.csv", ["case", "fold"])


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n1,2,3\n", b"a,b\n1,2\n1\n", b"a\n\xff\n", b"a,a\n1,2\n"])
def test_a_file_that_is_no_table_is_named(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.csv: cannot be read as a table"):
        files.read_csv(tmp_path / "a.csv", [])


def test_sha256_of_abc_is_the_published_one(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert files.sha256(tmp_path / "abc") == expected


def test_a_digest_does_not_depend_on_the_order_of_keys_but_on_every_value():
    assert files.digest({"a": 1, "b": [2]}) == files.digest(json.loads('{"b": [2], "a": 1}'))
    assert files.digest({"a": 1}) != files.digest({"a": 1.5})


def test_paths_of_a_study_lie_where_readers_expect_them(monkeypatch, tmp_path):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    assert files.study_folder("demo") == tmp_path.resolve() / "demo"
    assert files.study_file("demo") == files.ROOT / "params" / "demo.yaml"
    assert files.raw_folder("hc18") == files.ROOT / "data" / "raw" / "hc18"
    assert files.run_name(3, 1) == "fold3-seed1"


def test_reports_lie_in_the_project_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("REPORTS_ROOT", raising=False)
    assert files.reports_root() == files.ROOT / "reports"
    assert os.path.isabs(files.reports_root())


@pytest.mark.parametrize(("given", "expected"), [("", "reports"), ("elsewhere", "elsewhere"), ("../x", "../x")])
def test_reports_are_looked_for_from_the_project_whatever_the_working_directory(monkeypatch, tmp_path, given, expected):
    monkeypatch.setenv("REPORTS_ROOT", given)
    monkeypatch.chdir(tmp_path)
    assert files.reports_root() == (files.ROOT / expected).resolve()
