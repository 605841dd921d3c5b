from io import StringIO
from types import SimpleNamespace

import pytest

from lib.study import parallel, progress


@pytest.fixture
def clock(monkeypatch):
    """Every reading of the clock is 2 s later."""
    readings = iter(range(0, 10_000, 2))
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: next(readings)))


def test_a_line_tells_how_many_items_are_done_and_the_time_left_and_is_cleared_at_the_end(clock):
    lines = []
    assert list(progress.follow("abcd", 4, lines.append, "case")) == ["a", "b", "c", "d"]
    assert lines == ["case 1/4 · 6 s left", "case 2/4 · 4 s left", "case 3/4 · 2 s left", "case 4/4 · 0 s left", ""]


def test_two_updates_are_half_a_second_apart_and_the_line_is_cleared_if_the_caller_stops(monkeypatch):
    readings, lines = iter([0.0, 0.4, 0.6, 1.0, 1.2]), []
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    for item in progress.follow("abcdef", 6, lines.append, "step"):
        if item == "d":
            break
    assert lines == ["step 2/6 · 1 s left", "step 4/6 · 1 s left", ""]


def test_rows_in_parallel_are_followed_in_order_and_without_a_display_nothing_changes(clock):
    lines = []
    assert parallel.in_parallel(abs, iter([-1, -2, -3]), lines.append, "row") == [1, 2, 3]
    assert [line.split(" ·")[0] for line in lines] == ["row 1/3", "row 2/3", "row 3/3", ""]
    assert parallel.in_parallel(abs, [-1, -2]) == [1, 2]


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min")])
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


def test_lines_of_several_processes_are_whole_and_each_has_its_prefix():
    stream = StringIO()
    output = progress.Prefixed(stream, "fold1-seed0: ")
    output.write("epoch 1\nepo")
    assert stream.getvalue() == "fold1-seed0: epoch 1\n"
    output.write("ch 2\n\nepoch")
    output.line("failed")
    output.write("end")
    output.end()
    lines = ["epoch 1", "epoch 2", "", "epoch", "failed", "end"]
    assert stream.getvalue() == "".join(f"fold1-seed0: {line}\n" for line in lines)


def test_without_a_prefix_output_passes_unchanged():
    stream = StringIO()
    output = progress.Prefixed(stream, "")
    output.write("a")
    output.write("b\nc")
    output.end()
    assert stream.getvalue() == "ab\nc"
