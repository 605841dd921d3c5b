import csv

import numpy as np
from PIL import Image

from lib.datasets import lgg
from lib.datasets.phantoms import brains
from tests.datasets.phantoms.builders import SEED, read_truth


def test_the_published_layout_is_written(written):
    folder = written / "lgg"
    assert sorted(path.name for path in folder.iterdir()) == ["kaggle_3m", "truth.csv"]
    truth = read_truth(folder)
    assert {path.name for path in (folder / "kaggle_3m").iterdir()} == {*truth.index, "data.csv", "spacing.csv"}
    for name, slices in truth["slices"].items():
        expected = {f"{name}_{n}{end}.tif" for n in range(1, slices + 1) for end in ("", "_mask")}
        assert {path.name for path in (folder / "kaggle_3m" / name).iterdir()} == expected
        for end, mode in (("", "RGB"), ("_mask", "L")):
            with Image.open(folder / "kaggle_3m" / name / f"{name}_10{end}.tif") as image:
                assert (image.mode, image.info["compression"]) == (mode, "tiff_adobe_deflate")
    with (folder / "kaggle_3m/data.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["Patient", "gender", "age_at_initial_pathologic"]
    assert [row["Patient"] for row in rows] == truth["subject"].tolist()
    assert all(row["gender"] in "12" and 20 <= int(row["age_at_initial_pathologic"]) <= 75 for row in rows)


def test_the_layout_s_reader_gives_the_drawn_volumes_their_truth_and_their_oddities(written):
    truth, oddities = read_truth(written / "lgg"), {}
    for case in lgg.find_cases(written / "lgg", ())[0]:
        number = int(case.subject[-3:])
        volume, row = brains.draw_volume(SEED, number), truth.loc[case.name]
        image, mask = lgg.read_image(case.image), lgg.read_mask(case.mask)
        assert np.array_equal(image, volume.image)
        assert np.array_equal(mask, volume.mask)
        assert (case.slice_mm, *case.spacing_mm) == volume.grid.voxel_mm
        assert row["stratum"] == case.stratum
        assert {key: row[key] for key in volume.truth} == volume.truth
        assert tuple(row[f"spacing_{axis}_mm"] for axis in ("slice", "row", "col")) == volume.grid.voxel_mm
        oddities |= {(finding.check.name, number): finding.found for finding in lgg.inspect(case, image, mask)}
        if number == 9:
            at_end = f"{mask[-1].sum()} of {mask.sum()} lesion voxels"
    assert oddities["sequence replaced by FLAIR", 5] == "post-contrast"
    assert oddities["lesion in an end slice", 9].endswith(at_end)
    others = {("constant channel", 3), ("no lesion", 6)}
    assert set(oddities) == others | {("sequence replaced by FLAIR", 5), ("lesion in an end slice", 9)}
