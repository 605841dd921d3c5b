"""Sound data folders and their verification."""

import pytest

from lib import datasets
from lib.verification import rehosted
from lib.verification.verify import check_dataset
from tests import builders


@pytest.fixture(scope="package")
def written(tmp_path_factory):
    return builders.write_hc18(tmp_path_factory.mktemp("raw"), builders.heads())


@pytest.fixture(scope="package")
def sound(written):
    return check_dataset(datasets.DATASETS["hc18"], "hc18", written, correlation=0.99)


@pytest.fixture(scope="package")
def patients(tmp_path_factory):
    """Patients of different depth, with the pixel size of two of them."""
    folder = builders.write_lgg(tmp_path_factory.mktemp("patients"))
    names = [patient.name for patient in builders.PATIENTS]
    rows = [f"{names[0]},0.5,0.6,4.5", f"{names[3]},1.0,1.0,6.0"]
    (folder / "kaggle_3m" / "spacing.csv").write_text("\n".join(["patient,row_mm,col_mm,slice_mm", *rows]) + "\n")
    return folder


@pytest.fixture(scope="package")
def verified_patients(patients):
    with pytest.MonkeyPatch.context() as patch:  # volumes are not searched in data sets of images
        patch.setattr(rehosted, "known_images", lambda _: 1 / 0)
        return check_dataset(datasets.DATASETS["lgg"], "lgg", patients)
