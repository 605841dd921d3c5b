import threading

import pytest

from lib.study import environment, parallel


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rows_are_worked_on_by_so_many_threads_and_results_come_in_their_order(monkeypatch, count):
    monkeypatch.setenv(environment.THREADS_VARIABLE, str(count))
    together, workers = threading.Barrier(count, timeout=60), set()  # passed only by so many at a time

    def square(row):
        together.wait()
        workers.add(threading.get_ident())
        return row * row

    assert parallel.in_parallel(square, (row for row in range(12))) == [row * row for row in range(12)]
    assert len(workers) == count
    assert threading.get_ident() not in workers


def test_the_error_of_the_first_row_that_fails_is_raised_here():
    with pytest.raises(ValueError, match="could not convert string to float: 'x'"):
        parallel.in_parallel(float, ["1", "x", "2", "y"])
