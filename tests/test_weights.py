"""The weights in `weights/`: whole, small, with a licence, and they predict what their record says."""

import hashlib
from functools import cache

import pytest

from lib import datasets, prediction
from lib.imaging import image_files
from lib.models import load_described
from lib.prediction import shipping
from lib.study import files

WEIGHTS = files.ROOT / "weights"
FOLDERS = sorted(path for path in WEIGHTS.iterdir() if path.is_dir()) if WEIGHTS.is_dir() else []
HC18 = files.ROOT.parent / "shared" / "data" / "hc18"
MOST_BYTES = 20_000_000  # of a folder, which every clone has
WELL_MEASURED_MM = 2.0  # cases with a larger error of HC say less about whether the weights are the right ones
OTHER_MACHINE_MM = 0.1  # another processor rounds sums differently, which moves single pixels of a contour
pytestmark = [
    pytest.mark.skipif(not FOLDERS, reason=f"{WEIGHTS} has no folder: no weights are shipped"),
    pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name),
]


def test_every_file_is_listed_with_its_checksum_and_the_folder_is_small(folder):
    listed = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    now = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert listed == {name: value for name, value in now.items() if name != "SHA256SUMS"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES


def test_the_models_answer_together_and_each_has_the_card_with_a_licence(folder):
    model = prediction.load(folder, "cpu")
    card, licence = ((folder / name).read_text(encoding="utf-8") for name in ("card.md", "LICENCE.txt"))
    assert len(model.names) == len(list(folder.glob("*.safetensors")))
    for name in model.names:
        about = load_described(folder / name)[1]
        assert card.startswith(about["card"])
        assert about["licence"] in ("CC BY 4.0", "made by this project")
        assert f"| {name} | " in card
    (line,) = [line for line in card.splitlines() if line.startswith("- **Licence of the weights:** ")]
    assert line.removeprefix("- **Licence of the weights:** ") in licence
    assert "this is not a medical device" in card


@cache
def published():
    """HC18's cases by name."""
    return {case.name: case for case in datasets.find_cases(datasets.DATASETS["hc18"], HC18, [])[0]}


@pytest.mark.skipif(not HC18.is_dir(), reason=f"{HC18} is missing: HC18 is not part of the project")
def test_hc_of_two_images_is_that_of_the_record_and_near_the_published_one(folder):
    table = files.read_csv(folder / "parity.csv", shipping.COLUMNS).query("measure == 'hc_mm'")
    near = table[(table["shipped"] - table["reference_mm"]).abs() < WELL_MEASURED_MM]
    rows = near[near["case"].isin(published().keys())].head(2).to_dict("records")
    if not rows:
        pytest.skip(f"{folder.name} was not tested on HC18")
    for row in rows:
        case = published()[row["case"]]
        model = prediction.load(folder / f"{files.run_name(row['fold'], row['seed'])}.safetensors", "cpu")
        answer = prediction.predict(model, image_files.read_grey(case.image), case.spacing_mm)
        hc = {each["quantity"]: each["predicted_mm"] for each in prediction.measurements(model, answer)}["hc"]
        assert hc == pytest.approx(row["shipped"], abs=OTHER_MACHINE_MM)
        assert hc == pytest.approx(case.reference_mm["hc"], abs=WELL_MEASURED_MM + OTHER_MACHINE_MM)
