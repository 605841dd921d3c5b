"""Data of the benchmarks."""

import pandas as pd

from lib import datasets, preprocessing
from lib.data import arrays, cases
from lib.study import params
from lib.verification import case_checks


def prepared(study: params.Study) -> tuple[pd.DataFrame, arrays.Arrays]:
    """Manifest and arrays of the data set of a study; existing arrays are reused."""
    dataset = datasets.of(study)
    folder = datasets.prepare(study.dataset)
    found, _ = datasets.find_cases(dataset, folder, study.groups or ())
    table = cases.cases_table(found)
    seen = [case_checks.check_case(case, dataset).row for case in found]
    for column in ("slices", "height", "width", "sha256"):
        table[column] = [row[column] for row in seen]
    chosen = params.step_params(study, "02_preprocessing")
    return table, preprocessing.preprocess(preprocessing.source_of(chosen, table, dataset, None))
