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
with getattr(files, sys.argv[2])(Path(sys.argv[1])) as new:
    (new / "half.txt" if new.is_dir() else new).write_text("new" * 1000)
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


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def kill_at_half(path, function):
    """Starts to write a file or folder in another process, and kills it half-way."""
    command = [sys.executable, "-c", WRITE_HALF_AND_WAIT, str(path), function]
    child = subprocess.Popen(command, cwd=files.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL


@pytest.fixture
def old(tmp_path):
    """An existing file, alone in its folder."""
    files.write_text(tmp_path / "files" / "a.txt", "old")
    return tmp_path / "files" / "a.txt"


def test_an_exception_in_the_block_leaves_only_the_old_file(old):
    with pytest.raises(TypeError), files.replacing(old) as temporary:
        temporary.write_bytes(b"new" + "no bytes")
    assert (old.read_text(), names(old.parent)) == ("old", ["a.txt"])


def test_a_process_killed_in_the_middle_of_a_write_leaves_the_old_file(old):
    kill_at_half(old, "replacing")
    assert old.read_text() == "old"


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    ("function", "content"),
    [
        ("write_bytes", "bytes(100_000)"),
        ("write_text", "'x' * 100_000"),
        ("write_json", "list(range(100_000))"),
        ("write_csv", "__import__('pandas').DataFrame({'a': range(100_000)})"),
    ],
)
def test_a_full_disk_leaves_only_the_old_file(old, function, content, exists):
    path = old if exists else old.with_name("new.txt")
    command = [sys.executable, "-c", WRITE_TO_A_FULL_DISK, str(path), function, content]
    ended = subprocess.run(command, cwd=files.ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.strip()) == (1, f"OSError 27: {path}")
    assert (old.read_text(), names(old.parent)) == ("old", ["a.txt"])


def test_a_file_is_replaced_while_another_process_reads_the_old_one(old):
    with old.open() as reader:
        files.write_text(old, "Größe\n")
        assert reader.read() == "old"
    assert old.read_bytes() == "Größe\n".encode()
    files.write_text(old.parent / "deep" / "b.txt", "new")
    assert (names(old.parent), names(old.parent / "deep")) == (["a.txt", "deep"], ["b.txt"])


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_written_file_has_the_permissions_of_the_umask(old, umask, mode):
    before = os.umask(umask)
    try:
        files.write_text(old, "a")
    finally:
        os.umask(before)
    assert old.stat().st_mode & 0o777 == mode


@pytest.fixture
def folder(tmp_path):
    files.write_text(tmp_path / "made" / "old.txt", "old")
    return tmp_path / "made"


def write_new(folder):
    """Writes a folder, which appears only when complete."""
    before = names(folder) if folder.is_dir() else None
    with files.replacing_folder(folder) as working:
        assert names(working) == []
        (working / "new.txt").write_text("new")
        assert (names(folder) if folder.is_dir() else None) == before
    assert names(folder) == ["new.txt"]
    assert names(folder.parent) == ["made"]


def write_half(folder, error):
    with files.replacing_folder(folder) as working:
        (working / "half.txt").write_text("half")
        raise error


def test_a_written_folder_replaces_the_old_one_or_none_and_leaves_no_other(folder):
    write_new(folder)
    write_new(folder.parent / "deep" / "made")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no space left")])
@pytest.mark.parametrize("name", [".", "new"])
def test_an_exception_in_the_block_leaves_only_the_old_folder_or_none(folder, error, name):
    with pytest.raises(type(error)):
        write_half(folder / name, error)
    assert (names(folder), names(folder.parent)) == (["old.txt"], ["made"])


def test_a_process_killed_while_writing_a_folder_leaves_the_old_one_and_the_next_write_is_complete(folder):
    kill_at_half(folder, "replacing_folder")
    assert names(folder) == ["old.txt"]
    assert names(folder.parent) == [".writing-made", "made"]  # it was killed in the middle
    write_new(folder)


def test_leftovers_of_a_kill_between_both_renames_are_removed_by_the_next_write(folder):
    folder.rename(folder.with_name(".replaced-made"))
    folder.with_name(".writing-made").mkdir()
    write_new(folder)


def test_equal_values_give_equal_json_bytes_in_any_order_of_keys(tmp_path):
    for value in ({"b": 1, "a": [0.1, "ü"]}, {"a": [0.1, "ü"], "b": 1}):
        files.write_json(tmp_path / "a.json", value)
        assert (tmp_path / "a.json").read_text("utf-8") == '{\n "a": [\n  0.1,\n  "ü"\n ],\n "b": 1\n}\n'


def test_nan_in_json_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", {"dice": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff\xfe", b"[" * 100_000])
def test_broken_json_is_named(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json: not valid JSON"):
        files.read_json(tmp_path / "run.json")


def read_csv(folder, content, columns=()):
    (folder / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return files.read_csv(folder / "a.csv", list(columns))


def test_a_table_s_bytes_are_stable_and_its_floats_come_back_exactly(tmp_path):
    table = pd.DataFrame({"case": ["007_HC", "a,b"], "mm": [0.1 + 0.2, np.nan], "n": [1, 2]})
    files.write_csv(tmp_path / "a.csv", table)
    assert (tmp_path / "a.csv").read_bytes() == b'case,mm,n\n007_HC,0.30000000000000004,1\n"a,b",,2\n'
    for numbers in ([0.1 + 0.2, np.nan], [1e-320, -np.pi], [5e22, 123456789.123456789]):
        files.write_csv(tmp_path / "a.csv", table.assign(mm=numbers))
        read = files.read_csv(tmp_path / "a.csv", ["case"])
        pd.testing.assert_frame_equal(read, table.assign(mm=numbers), check_exact=True)


@pytest.mark.parametrize("text", ["007", "NA", "None", "nan", "null", "N/A", "n/a", "NULL", "#N/A", "inf", "True", "-"])
def test_text_columns_stay_text(tmp_path, text):
    table = pd.DataFrame({name: [text, "010"] for name in files.TEXT_COLUMNS})
    files.write_csv(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(files.read_csv(tmp_path / "a.csv", []), table)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        *(
            (text, f"'{text}")
            for text in ("=1+1", "@SUM(1)", "+1", "-x", "=", "-2+3+cmd|' /C calc'!A0", "＝1", "-1-A1")
        ),
        *((text, f"'{text}") for text in ("\t=1", "-5 (+)", "'=1", "''=1", "'-x")),
        *((text, text) for text in ("-5", "-.5", "-1.5e-3", "-", "'a", "'", "''", "'-5", "a=1", "Zoë", "-5 mm")),
        *((text, text) for text in ("+0.017 inside against outside", "-0.013 inside 2 %")),
        *((text, f'"\'{text}"') for text in ("\n=1", "-\n", "=a,b")),
    ],
)
def test_text_that_a_spreadsheet_would_run_is_written_with_an_apostrophe_and_read_back_exactly(tmp_path, text, cell):
    table = pd.DataFrame({"case": [text], "found": [text], "mm": [-1.5]})
    files.write_csv(tmp_path / "a.csv", table)
    assert (tmp_path / "a.csv").read_bytes().decode() == f"case,found,mm\n{cell},{cell},-1.5\n"
    pd.testing.assert_frame_equal(files.read_csv(tmp_path / "a.csv", []), table)


def test_text_with_a_carriage_return_is_quoted_and_read_back_exactly(tmp_path):
    table = pd.DataFrame({"case": ["\r=1", "a\rb"], "mm": [-1.5, np.nan]})
    files.write_csv(tmp_path / "a.csv", table)
    assert (tmp_path / "a.csv").read_bytes() == b'"case","mm"\n"\'\r=1","-1.5"\n"a\rb",""\n'
    pd.testing.assert_frame_equal(files.read_csv(tmp_path / "a.csv", []), table)


def test_values_beside_text_that_is_written_with_an_apostrophe_keep_their_form(tmp_path):
    table = pd.DataFrame({"a": pd.Series([1, None, True, "=x"], dtype=object), "b": pd.Categorical(["=x", "y"] * 2)})
    for each in (table, table[:0], table.set_index([[0] * 4])):
        files.write_csv(tmp_path / "a.csv", each)
        expected = each.to_csv(index=False, lineterminator="\n").replace("=x", "'=x")
        assert (tmp_path / "a.csv").read_text() == expected


def test_an_empty_cell_is_a_missing_number_or_empty_text(tmp_path):
    table = read_csv(tmp_path, "case,stratum,mm,n,best\nNA,,,3,True\nb,x,inf,4,False\n")
    expected = {"case": ["NA", "b"], "stratum": ["", "x"], "mm": [np.nan, np.inf], "n": [3, 4], "best": [True, False]}
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((f"{n},mm\nx,1\n,2\n", f"column {n}, row 3: empty") for n in ("case", "subject", "fold_group", "class")),
        *(
            (f'case,mm\nx,1\ny,"{cell}"\n', f"column mm, row 3: '{cell}'; expected a number")
            for cell in ("nan", "NA", "1,5", "1_000", "3 mm", "-")
        ),
        (b"", "cannot be read as a table"),
        (b"a,b\n1,2\n1,2,3\n", "cannot be read as a table: row 3 has 3 cells, the header has 2"),
        (b"a,b\n1,2\n1\n", "cannot be read as a table: row 3 has 1 cells, the header has 2"),
        (b"a\n\xff\n", "cannot be read as a table"),
        (b"a,a\n1,2\n", r"cannot be read as a table: header \['a', 'a'\]"),
        ("case,dice\n", r"columns \['fold'\] are missing; found \['case', 'dice'\]"),
    ],
)
def test_an_invalid_table_is_refused_with_its_file_row_and_column(tmp_path, content, message):
    columns = ["fold"] if "fold'" in message else []
    with pytest.raises(ValueError, match=rf"a\.csv\W+{message}"):
        read_csv(tmp_path, content, columns)


def test_a_missing_table_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"folds\.csv: missing; run the notebook that writes it first"):
        files.read_csv(tmp_path / "folds.csv", ["case"])


def test_sha256_of_abc_is_the_published_value(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert files.sha256(tmp_path / "abc") == expected


def test_a_digest_depends_on_every_value_but_not_on_the_order_of_keys():
    assert files.digest({"a": 1, "b": [2]}) == files.digest(json.loads('{"b": [2], "a": 1}'))
    assert files.digest({"a": 1}) != files.digest({"a": 1.5})


@pytest.mark.parametrize(
    ("given", "expected"), [(None, "reports"), ("", "reports"), ("elsewhere", "elsewhere"), ("../x", "../x")]
)
def test_paths_do_not_depend_on_the_working_directory(monkeypatch, tmp_path, given, expected):
    monkeypatch.delenv("REPORTS_ROOT", raising=False)
    if given is not None:
        monkeypatch.setenv("REPORTS_ROOT", given)
    monkeypatch.chdir(tmp_path)
    assert files.study_folder("demo") == (files.ROOT / expected).resolve() / "demo"
    assert files.study_file("demo") == files.ROOT / "params" / "demo.yaml"
    assert files.raw_folder("hc18") == files.ROOT / "data" / "raw" / "hc18"
    assert files.run_name(3, 1) == "fold3-seed1"
