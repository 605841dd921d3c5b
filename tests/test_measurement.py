from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import biometry, cases, datasets, evaluation, measurement, shapes, tables
from tests import builders
from tests.builders import Head

HC18 = datasets.DATASETS["hc18"]


def large_heads():
    """Six heads of 230 to 300 pixels, where a drawn mask is exact to a tenth of a pixel."""
    return [
        Head(
            f"{n:03d}_HC", (150.2 + n, 199.7 - n), 300 - 14.0 * n, 240 - 12.0 * n, 25.0 * n, (300, 400), 0.1 + 0.05 * n
        )
        for n in range(6)
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = builders.write_hc18(tmp_path_factory.mktemp("raw"), large_heads())
    table = builders.verified(folder).cases
    return table, cases.assign_folds(table, 3, seed=0)


def as_drawn(region, head):
    return region


def nothing(region, head):
    return region & False


def predictions(folder, tested, change=as_drawn):
    """Masks as drawn, or changed, where 05_evaluation would have put them."""
    drawn = {head.name: head for head in large_heads()}
    for row in tested.to_dict("records"):
        region = change(builders.region_of(drawn[row["case"]]), drawn[row["case"]])
        path = evaluation.prediction_file(folder, row["stage"], row["fold"], row["seed"], row["case"])
        evaluation.write_mask(path, region.astype(np.uint8))
    return folder / "predictions"


def masks_of(folds, stages=("post",), seeds=(0,)):
    rows = folds[folds["fold"].isin([0, 1])]
    return pd.DataFrame(
        [
            {"case": case, "fold": fold, "seed": seed, "stage": stage}
            for case, fold in zip(rows["case"], rows["fold"])
            for seed in seeds
            for stage in stages
        ]
    )


def measure(written, folder, table=None, change=as_drawn, tested=None, **keys):
    manifest, folds = written
    tested = masks_of(folds) if tested is None else tested
    chosen = builders.step_params("06_biometry", **({"hc_range_mm": [10.0, 400.0]} | keys))
    masks = predictions(folder, tested, change)
    return measurement.measure_all(chosen, manifest if table is None else table, folds, tested, HC18, masks)


def ellipses(measured, quantity="hc"):
    return measured[(measured["route"] == "ellipse") & (measured["quantity"] == quantity)].set_index("case")


def test_masks_drawn_from_the_references_are_measured_within_a_tenth_of_a_millimetre(written, tmp_path):
    measured = measure(written, tmp_path)
    rows = measured[measured["route"] == "ellipse"]
    assert len(rows) == 3 * len(masks_of(written[1]))
    # HC's reference is the drawn perimeter; BPD and OFD are measured on the reference mask.
    assert (rows["predicted_mm"] - rows["reference_mm"]).abs().max() < 0.1


def test_axes_and_hc_are_those_of_the_drawn_ellipse(written, tmp_path):
    measured = measure(written, tmp_path)
    drawn = {head.name: head for head in large_heads()}
    for quantity, of in (("ofd", "major"), ("bpd", "minor")):
        for case, value in ellipses(measured, quantity)["predicted_mm"].items():
            head = drawn[case]
            assert value == pytest.approx(getattr(head, of) * head.spacing_mm, abs=0.12 * head.spacing_mm), case


def test_there_is_a_row_for_every_mask_route_and_quantity(written, tmp_path):
    tested = masks_of(written[1], stages=("raw", "post"), seeds=(0, 1))
    measured = measure(written, tmp_path, tested=tested)
    assert measured.columns.tolist() == measurement.COLUMNS
    assert len(measured) == len(tested) * 2 * 3
    assert not measured.duplicated(["case", "seed", "stage", "route", "quantity"]).any()


def test_hc_s_reference_is_the_published_one(written, tmp_path):
    measured = ellipses(measure(written, tmp_path))
    published = written[0].set_index("case")["hc_mm"]
    assert (measured["reference_mm"] == published.loc[measured.index]).all()


def test_what_is_not_published_is_measured_on_the_reference_mask(written, tmp_path):
    measured = ellipses(measure(written, tmp_path), "bpd")
    row = written[0].set_index("case").loc[measured.index[0]]
    region = HC18.read_mask(cases.split_paths(row["mask"])) > 0
    expected = biometry.measure_head(region, (row["spacing_row_mm"], row["spacing_col_mm"]))["bpd"]
    assert measured["reference_mm"].iloc[0] == expected


def test_published_quantities_need_no_mask():
    row = pd.Series({"bpd_mm": 90.0, "ofd_mm": 120.0, "hc_mm": 331.0, "mask": "nowhere.png"})
    assert measurement.reference_mm(row, HC18, [1]) == {"bpd": 90.0, "ofd": 120.0, "hc": 331.0}


def test_the_baseline_is_the_mean_of_the_training_cases_counted_by_hand(written, tmp_path):
    manifest, folds = written
    measured = measure(written, tmp_path)
    hc = manifest.set_index("case")["hc_mm"]
    for fold in (0, 1):
        train = folds[~folds["fold"].isin([fold, (fold + 1) % 3])]["case"]
        rows = measured.query("route == 'baseline' and quantity == 'hc' and fold == @fold")
        assert rows["predicted_mm"].tolist() == pytest.approx([hc[train].mean()] * len(rows))
        assert (rows["flags"] == "").all()


def test_the_baseline_has_the_references_of_the_ellipses(written, tmp_path):
    measured = measure(written, tmp_path)
    routes = [measured[measured["route"] == route].reset_index(drop=True) for route in ("ellipse", "baseline")]
    pd.testing.assert_series_equal(routes[0]["reference_mm"], routes[1]["reference_mm"])


def test_a_case_without_a_pixel_size_has_no_row(written, tmp_path):
    table, folds = written
    missing = masks_of(folds)["case"].iloc[0]
    spoilt = table.copy()
    spoilt.loc[spoilt["case"] == missing, ["spacing_row_mm", "spacing_col_mm", "hc_mm"]] = np.nan
    measured = measure(written, tmp_path, table=spoilt)
    assert missing not in set(measured["case"])
    assert set(measured["case"]) == set(masks_of(folds)["case"]) - {missing}


def test_without_any_pixel_size_there_is_no_row(written, tmp_path):
    table, _ = written
    unknown = table.assign(spacing_row_mm=np.nan, spacing_col_mm=np.nan)
    measured = measure(written, tmp_path, table=unknown)
    assert measured.empty
    assert measured.columns.tolist() == measurement.COLUMNS
    assert measurement.axes_in_order(measured)
    assert measurement.flagged(measured).empty
    assert tables.agreement(measured).empty


def test_where_the_study_names_no_head_nothing_is_measured_and_no_mask_is_read(written, tmp_path):
    table, folds = written
    chosen = builders.step_params("06_biometry", head_classes=[])
    nowhere = tmp_path / "nowhere"
    measured = measurement.measure_all(chosen, table, folds, masks_of(folds), HC18, nowhere)
    assert measured.empty
    assert measured.columns.tolist() == measurement.COLUMNS
    assert measurement.axes_in_order(measured)
    assert measurement.flagged(measured).empty


def test_a_case_without_a_pixel_size_does_not_count_in_the_training_mean(written):
    _, folds = written
    train = cases.parts(folds, 0)["train"]
    references = {train[0]: {"bpd": 1.0, "ofd": 2.0, "hc": 3.0}}
    assert measurement.training_mean(folds, 0, references) == references[train[0]]
    assert all(np.isnan(value) for value in measurement.training_mean(folds, 0, {}).values())


def test_an_empty_prediction_is_nan_with_a_flag(written, tmp_path):
    measured = measure(written, tmp_path, change=nothing)
    rows = measured[measured["route"] == "ellipse"]
    assert rows["predicted_mm"].isna().all()
    assert (rows["flags"] == "no ellipse").all()
    assert rows["reference_mm"].notna().all()


def test_a_head_that_is_too_long_is_flagged_and_kept(written, tmp_path):
    def flatten(region, head):
        return builders.ellipse_region(head.shape, head.centre, 300, 150, 0)

    rows = ellipses(measure(written, tmp_path, change=flatten))
    assert (rows["flags"] == "long").all()
    assert rows["predicted_mm"].notna().all()


@pytest.mark.parametrize(
    ("found", "flags"),
    [
        ({"bpd": 80.0, "ofd": 100.0, "hc": 284.0}, ""),
        ({"bpd": 50.0, "ofd": 100.0, "hc": 242.0}, "long"),
        ({"bpd": 8.0, "ofd": 10.0, "hc": 28.4}, "HC out of range"),
        ({"bpd": 150.0, "ofd": 170.0, "hc": 503.0}, "HC out of range"),
        ({"bpd": 5.0, "ofd": 10.0, "hc": 24.2}, "long; HC out of range"),
        ({"bpd": 100.0, "ofd": 170.0, "hc": 400.0}, ""),
    ],
    ids=str,
)
def test_flags_of_a_head(found, flags):
    assert measurement.flags_of(found, 1.7, [40.0, 400.0]) == flags


def test_classes_of_the_head_are_joined_before_it_is_measured():
    region = builders.ellipse_region((200, 260), (100.3, 130.2), 200, 160, 15).astype(np.uint8)
    whole = biometry.measure_head(region > 0, (0.5, 0.5))
    region[90:110, 100:160] *= 3
    row = pd.Series({"bpd_mm": np.nan, "ofd_mm": np.nan, "hc_mm": np.nan, "mask": "m.png"})
    row["spacing_row_mm"] = row["spacing_col_mm"] = 0.5
    joined = replace(HC18, classes=("background", "a", "b", "c"), read_mask=lambda _: region)
    assert measurement.reference_mm(row, joined, [1, 2, 3]) == whole


def test_axes_in_the_wrong_order_are_found(written, tmp_path):
    measured = measure(written, tmp_path)
    assert measurement.axes_in_order(measured)
    swapped = measured.replace({"quantity": {"bpd": "ofd", "ofd": "bpd"}})
    assert not measurement.axes_in_order(swapped)


def test_no_measured_head_has_no_axes_in_the_wrong_order(written, tmp_path):
    assert measurement.axes_in_order(measure(written, tmp_path, change=nothing))


# Shapes of structures


def describe_shapes(written, folder, table=None, change=as_drawn, tested=None):
    manifest, folds = written
    tested = masks_of(folds) if tested is None else tested
    masks = predictions(folder, tested, change)
    chosen = builders.step_params("06_biometry")
    return measurement.shapes_of_all(chosen, manifest if table is None else table, tested, HC18, masks)


def test_predicted_and_reference_shapes_of_drawn_heads_are_those_of_the_ellipses(written, tmp_path):
    found = describe_shapes(written, tmp_path)
    drawn = {head.name: head for head in large_heads()}
    assert found.columns.tolist() == measurement.SHAPE_COLUMNS
    assert (found["class"] == "head").all()
    for row in found.to_dict("records"):
        head = drawn[row["case"]]
        area = np.pi / 4 * head.major * head.minor * head.spacing_mm**2
        assert row["area_mm2"] == pytest.approx(area, rel=0.005)
        assert row["eccentricity"] == pytest.approx(np.sqrt(1 - (head.minor / head.major) ** 2), abs=0.01)
        middle = (np.array(head.centre) + 0.5) * head.spacing_mm
        assert [row["centroid_row_mm"], row["centroid_col_mm"]] == pytest.approx(middle.tolist(), abs=0.1)
        assert row["parts"] == 1


def test_there_is_a_row_for_every_case_seed_and_source_after_post_processing(written, tmp_path):
    tested = masks_of(written[1], stages=("raw", "post"), seeds=(0, 1))
    found = describe_shapes(written, tmp_path, tested=tested)
    assert len(found) == (tested["stage"] == "post").sum() * 2
    assert not found.duplicated(["case", "seed", "class", "source"]).any()
    assert set(found["source"]) == {"reference", "predicted"}


def test_raw_masks_are_not_described(written, tmp_path):
    tested = masks_of(written[1], stages=("raw",))
    found = describe_shapes(written, tmp_path, tested=tested)
    assert found.empty
    assert found.columns.tolist() == measurement.SHAPE_COLUMNS


def test_a_structure_that_was_not_predicted_has_no_parts_and_no_place(written, tmp_path):
    found = describe_shapes(written, tmp_path, change=nothing).set_index("source")
    assert (found.loc["predicted", "parts"] == 0).all()
    assert found.loc["predicted", [name for name in shapes.COLUMNS if name != "parts"]].isna().all(axis=None)
    assert (found.loc["reference", "parts"] == 1).all()


def test_without_a_pixel_size_shapes_have_form_and_no_millimetres(written, tmp_path):
    table = written[0].assign(spacing_row_mm=np.nan, spacing_col_mm=np.nan)
    found = describe_shapes(written, tmp_path, table=table)
    assert found["eccentricity"].notna().all()
    assert found[[name for name in shapes.COLUMNS if name.endswith(("_mm", "_mm2"))]].isna().all(axis=None)


def test_a_shifted_prediction_is_found_by_its_centroid(written, tmp_path):
    def shift(region, head):
        return np.roll(region, (3, 4), axis=(0, 1))  # five pixels

    found = tables.shapes(describe_shapes(written, tmp_path, change=shift)).iloc[0]
    tested = [head for head in large_heads() if head.name in set(masks_of(written[1])["case"])]
    expected = np.mean([5 * head.spacing_mm for head in tested])
    assert found["centroid_distance_mm"] == pytest.approx(expected, abs=0.03)  # the reference is fitted to an outline
    assert found["n"] == len(tested)


@pytest.mark.parametrize(
    ("spacing_mm", "known"),
    [((0.1, 0.2), (0.1, 0.2)), ((np.nan, np.nan), None), ((0.1, np.nan), None)],
    ids=str,
)
def test_a_pixel_size_of_a_table_is_known_or_none(spacing_mm, known):
    assert measurement.known_spacing(spacing_mm) == known
