"""Long tables against each other."""

from lib.report.recompute.results import Results


def differing(results: Results) -> list[str]:
    return []
