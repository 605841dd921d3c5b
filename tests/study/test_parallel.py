import threading

import pytest

from lib.study import environment, parallel


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_rows_from_the_set_number_of_threads(monkeypatch, count):
    monkeypatch.setenv(environment.THREADS_VARIABLE, str(count))
    together, workers = threading.Barrier(count, timeout=60), set()  # passes only that many at a time

    def square(row):
        together.wait()
        workers.add(threading.get_ident())
        return row * row

    assert parallel.in_parallel(square, iter(range(12))) == [row * row for row in range(12)]
    assert len(workers) == count
    assert threading.get_ident() not in workers


def test_the_error_of_the_first_failing_row_is_raised():
    with pytest.raises(ValueError, match="could not convert string to float: 'x'"):
        parallel.in_parallel(float, ["1", "x", "2", "y"])
