from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import datasets
from lib.data import cases, splits
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import landmark_tables
from lib.evaluation import biometry
from lib.imaging import ellipse, head_points, image_files, mask_files, shapes
from lib.report import tables
from lib.report.summaries import biometry_errors
from lib.study import files
from tests import builders
from tests.builders import Head

HC18 = datasets.DATASETS["hc18"]
DATA = files.ROOT.parent / "shared" / "data"


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
    return table, splits.assign_folds(table, 3, seed=0)


def as_drawn(region, head):
    return region


def nothing(region, head):
    return region & False


def predictions(folder, tested, change=as_drawn):
    """Masks as drawn, or changed, where 05_evaluation would have put them."""
    drawn = {head.name: head for head in large_heads()}
    for row in tested.to_dict("records"):
        region = change(builders.region_of(drawn[row["case"]]), drawn[row["case"]])
        path = mask_files.place(folder, row["stage"], row["fold"], row["seed"], row["case"], is_volume=False)
        mask_files.write(path, region.astype(np.uint8))
    return folder


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


class Predictions:
    def __init__(self, test_set, tested, head_classes=("head",), max_axis_ratio=1.7):
        self.test_set, self.tested, self.head_classes, self.ratio = test_set, tested, head_classes, max_axis_ratio

    def find_heads(self):
        return biometry.find_heads(self.test_set, self.tested, self.head_classes)

    def measure_all(self, heads):
        references = biometry.references_of(self.test_set, self.head_classes)
        return biometry.measure_all(heads, references, self.test_set.folds, self.ratio, [10.0, 400.0])

    @property
    def measurable(self):
        return biometry.measurable(self.test_set, self.find_heads())


def predictions_of(test_set, tested, **keys):
    return Predictions(test_set, tested, **keys)


def bench_of(written, folder, table=None, change=as_drawn, tested=None, **keys):
    manifest, folds = written
    tested = masks_of(folds) if tested is None else tested
    predictions(folder / "predictions", tested, change)
    test_set = EvaluationSet(manifest if table is None else table, folds, None, HC18, folder)
    return predictions_of(test_set, tested, **keys)


def measure(written, folder, table=None, change=as_drawn, tested=None, **keys):
    bench = bench_of(written, folder, table, change, tested, **keys)
    return bench.measure_all(bench.find_heads())


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
    assert measured.columns.tolist() == biometry.COLUMNS
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
    expected = ellipse.measure_head(region, (row["spacing_row_mm"], row["spacing_col_mm"]))["bpd"]
    assert measured["reference_mm"].iloc[0] == expected


def test_published_quantities_need_no_mask():
    row = pd.Series({"bpd_mm": 90.0, "ofd_mm": 120.0, "hc_mm": 331.0, "mask": "nowhere.png"})
    assert biometry.reference_mm(row, HC18, [1]) == {"bpd": 90.0, "ofd": 120.0, "hc": 331.0}


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
    assert measured.columns.tolist() == biometry.COLUMNS
    assert biometry.axes_in_order(measured)
    assert biometry.exchanged_are_flagged(measured)
    assert biometry.flagged(measured).empty
    assert biometry_errors.agreement(measured).empty


def test_where_the_study_names_no_head_nothing_is_measured_and_no_mask_is_read(written, tmp_path):
    table, folds = written
    test_set = EvaluationSet(table, folds, None, HC18, tmp_path / "nowhere")
    bench = predictions_of(test_set, masks_of(folds), head_classes=[])
    heads = bench.find_heads()
    measured = bench.measure_all(heads)
    assert measured.empty
    assert bench.measurable == set()
    assert biometry.points_of(heads).columns.tolist() == biometry.LANDMARK_COLUMNS
    assert measured.columns.tolist() == biometry.COLUMNS
    assert biometry.axes_in_order(measured)
    assert biometry.exchanged_are_flagged(measured)
    assert biometry.flagged(measured).empty


def test_a_case_without_a_pixel_size_does_not_count_in_the_training_mean(written):
    _, folds = written
    train = splits.parts(folds, 0)["train"]
    references = {train[0]: {"bpd": 1.0, "ofd": 2.0, "hc": 3.0}}
    assert biometry.training_mean(folds, 0, references) == references[train[0]]
    assert all(np.isnan(value) for value in biometry.training_mean(folds, 0, {}).values())


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
    assert biometry.flags_of(found, 1.7, [40.0, 400.0]) == flags


def test_classes_of_the_head_are_joined_before_it_is_measured(tmp_path):
    region = builders.ellipse_region((200, 260), (100.3, 130.2), 200, 160, 15).astype(np.uint8)
    whole = ellipse.measure_head(region > 0, (0.5, 0.5))
    region[90:110, 100:160] *= 3
    path = str(builders.save_png(tmp_path / "m.png", region))
    row = pd.Series({"bpd_mm": np.nan, "ofd_mm": np.nan, "hc_mm": np.nan, "image": path, "mask": path})
    row["sha256"], row["spacing_row_mm"], row["spacing_col_mm"] = files.sha256(tmp_path / "m.png"), 0.5, 0.5
    joined = replace(
        HC18, classes=("background", "a", "b", "c"), read_mask=lambda paths: image_files.read_pixels(*paths)
    )
    assert biometry.reference_mm(row, joined, [1, 2, 3]) == whole


def test_axes_in_the_wrong_order_are_found(written, tmp_path):
    measured = measure(written, tmp_path)
    assert biometry.axes_in_order(measured)
    swapped = measured.replace({"quantity": {"bpd": "ofd", "ofd": "bpd"}})
    assert not biometry.axes_in_order(swapped)


def test_no_measured_head_has_no_axes_in_the_wrong_order(written, tmp_path):
    assert biometry.axes_in_order(measure(written, tmp_path, change=nothing))


# Shapes of structures


def describe_shapes(written, folder, table=None, change=as_drawn, tested=None):
    bench = bench_of(written, folder, table, change, tested)
    return biometry.shapes_of_all(bench.test_set, bench.tested)


def test_predicted_and_reference_shapes_of_drawn_heads_are_those_of_the_ellipses(written, tmp_path):
    found = describe_shapes(written, tmp_path)
    drawn = {head.name: head for head in large_heads()}
    assert found.columns.tolist() == biometry.SHAPE_COLUMNS
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
    assert found.columns.tolist() == biometry.SHAPE_COLUMNS


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

    found = biometry_errors.shapes(describe_shapes(written, tmp_path, change=shift)).iloc[0]
    tested = [head for head in large_heads() if head.name in set(masks_of(written[1])["case"])]
    expected = np.mean([5 * head.spacing_mm for head in tested])
    assert found["centroid_distance_mm"] == pytest.approx(expected, abs=0.03)  # the reference is fitted to an outline
    assert found["n"] == len(tested)


# Ends of the lines, by either route


def test_ends_of_masks_are_those_of_the_drawn_axes_in_canonical_order(written, tmp_path):
    found = biometry.points_of(bench_of(written, tmp_path).find_heads())
    assert found.columns.tolist() == biometry.LANDMARK_COLUMNS
    assert (found["route"] == "ellipse").all()
    drawn = {head.name: head for head in large_heads()}
    for row in found.to_dict("records"):
        head = drawn[row["case"]]
        expected = head_points.axis_ends(head.centre, head.major, head.minor, head.angle_deg)
        ends = np.array([row[name] for name in head_points.POINT_COLUMNS]).reshape(4, 2)
        assert ends == pytest.approx(expected, abs=0.5), head.name  # a turn of 0.1 degrees moves an end by 0.25


def test_lengths_between_the_ends_are_the_measured_axes(written, tmp_path):
    bench = bench_of(written, tmp_path)
    heads = bench.find_heads()
    measured = bench.measure_all(heads)
    spacing = written[0].set_index("case")["spacing_row_mm"]
    ends = (
        heads[head_points.POINT_COLUMNS].to_numpy().reshape(-1, 4, 2)
        * spacing.loc[heads["case"]].to_numpy()[:, None, None]
    )
    for place, quantity in enumerate(("ofd", "bpd")):
        values = ellipses(measured, quantity)["predicted_mm"].loc[heads["case"]]
        assert head_points.line_lengths(ends)[:, place] == pytest.approx(values.to_numpy(), rel=1e-12)


def test_points_are_those_after_post_processing_only(written, tmp_path):
    tested = masks_of(written[1], stages=("raw", "post"), seeds=(0, 1))
    heads = bench_of(written, tmp_path, tested=tested).find_heads()
    found = biometry.points_of(heads)
    assert len(heads) == 2 * len(found) == len(tested)
    assert not found.duplicated(["case", "seed", "route"]).any()


def test_without_a_pixel_size_a_head_has_ends_and_no_millimetres(written, tmp_path):
    unknown = written[0].assign(spacing_row_mm=np.nan, spacing_col_mm=np.nan)
    heads = bench_of(written, tmp_path, table=unknown).find_heads()
    assert heads[head_points.POINT_COLUMNS].notna().all(axis=None)
    assert heads[["ofd_mm", "bpd_mm"]].isna().all(axis=None)


def test_a_head_without_an_ellipse_has_no_ends(written, tmp_path):
    found = biometry.points_of(bench_of(written, tmp_path, change=nothing).find_heads())
    assert len(found) == len(masks_of(written[1]))
    assert found[head_points.POINT_COLUMNS].isna().all(axis=None)


def test_a_mask_that_cannot_be_read_is_an_error_and_no_missed_head(written, tmp_path):
    bench = bench_of(written, tmp_path)
    row = bench.tested.iloc[0]
    bench.test_set.predicted(row["stage"], row["fold"], row["seed"], row["case"]).write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        bench.find_heads()


# Pixels of 2 mm by 1 mm; three cases, a fold each. Lines of case "a": OFD (0, 0) to (30, 80), so (60, 80) mm: 100 mm;
# BPD (20, 0) to (0, 30), so (40, 30) mm: 50 mm.

A = [0.0, 0, 30, 80, 20, 0, 0, 30]
TALL_PIXELS = (2.0, 1.0)


def scaled(ends, factor):
    return [factor * value for value in ends]


def manifest_of(**columns):
    table = {"case": list("abc"), "subject": list("abc"), "split": "", "stratum": ""}
    table |= {"spacing_row_mm": TALL_PIXELS[0], "spacing_col_mm": TALL_PIXELS[1], "slices": 1, "mask": "none.png"}
    table |= {"height": 90, "width": 120}
    return pd.DataFrame(table | columns).reindex(columns=cases.CASE_COLUMNS)


FOLDS = pd.DataFrame(
    {"case": list("abc"), "subject": list("abc"), "fold_group": list("abc"), "fold": range(3), "validates": True}
)
REFERENCE = pd.DataFrame(
    [["a", *A], ["b", *scaled(A, 0.5)], ["c", *scaled(A, 2)]], columns=["case", *head_points.POINT_COLUMNS]
)


def found_of(*rows):
    """points.csv of 05, of (case, fold, route, ends)."""
    table = pd.DataFrame([[case, case, fold, 0, route, *ends, 0.9, 0.8] for case, fold, route, ends in rows])
    return table.set_axis(biometry.LANDMARK_COLUMNS, axis=1)


def landmark_bench(found, table=None, **keys):
    table = manifest_of() if table is None else table
    return predictions_of(
        EvaluationSet(table, FOLDS, None, HC18, "nowhere", REFERENCE), found.assign(stage="post"), **keys
    )


def measure_landmarks(found, table=None, **keys):
    bench = landmark_bench(found, table, **keys)
    return bench.measure_all(bench.find_heads())


def quantities(measured, route, column="predicted_mm"):
    return measured[measured["route"] == route].set_index("quantity")[column].to_dict()


def test_landmarks_are_measured_along_each_axis_of_their_pixels():
    measured = measure_landmarks(found_of(("a", 0, "landmark", scaled(A, 1.1))))
    assert measured.columns.tolist() == biometry.COLUMNS
    found = quantities(measured, "landmark")
    assert (found["ofd"], found["bpd"]) == pytest.approx((110, 55))
    assert found["hc"] == pytest.approx(builders.perimeter(110, 55), rel=1e-9)
    reference = quantities(measured, "landmark", "reference_mm")
    assert (reference["ofd"], reference["bpd"]) == pytest.approx((100, 50))
    assert reference["hc"] == pytest.approx(builders.perimeter(100, 50), rel=1e-9)
    assert set(measured["stage"]) == {"post"}
    assert (measured["flags"] == "long").equals(measured["route"] == "landmark")  # 2 : 1 is above the largest ratio


def test_order_of_ends_changes_no_millimetre():
    turned = [A[2], A[3], A[0], A[1], *A[6:], A[4], A[5]]
    both = [measure_landmarks(found_of(("a", 0, "landmark", ends))) for ends in (A, turned)]
    pd.testing.assert_frame_equal(*both)


def test_hc_of_landmarks_has_the_published_reference_where_there_is_one():
    measured = measure_landmarks(found_of(("a", 0, "landmark", A)), manifest_of(hc_mm=[250.0, np.nan, np.nan]))
    reference = quantities(measured, "landmark", "reference_mm")
    assert reference["hc"] == 250
    assert (reference["ofd"], reference["bpd"]) == pytest.approx((100, 50))


def test_published_axes_do_not_replace_the_published_points():
    measured = measure_landmarks(found_of(("a", 0, "landmark", A)), manifest_of(ofd_mm=123.0, bpd_mm=45.0))
    assert quantities(measured, "landmark", "reference_mm")["ofd"] == pytest.approx(100)


def test_the_baseline_of_landmarks_is_the_mean_of_the_training_references():
    measured = measure_landmarks(found_of(("a", 0, "landmark", A), ("a", 0, "mean shape", A)))
    guess = quantities(measured, "baseline")  # fold 0 is tested, b validates, c trains
    assert (guess["ofd"], guess["bpd"]) == pytest.approx((200, 100))
    assert guess["hc"] == pytest.approx(builders.perimeter(200, 100), rel=1e-9)
    assert (measured["route"] == "baseline").sum() == 3  # once, whatever guesses there are


def test_a_blank_map_measures_nothing_in_millimetres():
    measured = measure_landmarks(found_of(("a", 0, "landmark", A), ("a", 0, "blank map", [44.5, 59.5] * 4)))
    assert quantities(measured, "blank map") == {"bpd": 0, "ofd": 0, "hc": 0}
    assert set(quantities(measured, "blank map", "flags").values()) == {""}
    assert (
        biometry_errors.agreement(measured).set_index(["route", "quantity"]).loc[("blank map", "ofd"), "mae_percent"]
        == 100
    )


def test_a_bpd_longer_than_the_ofd_is_flagged_and_kept():
    exchanged = [*A[4:], *A[:4]]
    measured = measure_landmarks(found_of(("a", 0, "landmark", exchanged)), max_axis_ratio=2.5)
    found = quantities(measured, "landmark")
    assert (found["ofd"], found["bpd"]) == pytest.approx((50, 100))
    assert found["hc"] == pytest.approx(builders.perimeter(100, 50), rel=1e-9)
    assert set(quantities(measured, "landmark", "flags").values()) == {"BPD longer than OFD"}
    assert biometry.exchanged_are_flagged(measured)
    assert not biometry.exchanged_are_flagged(measured.assign(flags=""))
    assert biometry.axes_in_order(measured)  # of ellipses, and there are none


def test_a_missed_line_leaves_the_other_measured_and_is_counted():
    measured = measure_landmarks(found_of(("a", 0, "landmark", [*A[:6], np.nan, np.nan])))
    found = quantities(measured, "landmark")
    assert found["ofd"] == pytest.approx(100)
    assert np.isnan([found["bpd"], found["hc"]]).all()
    assert set(quantities(measured, "landmark", "flags").values()) == {"no peak"}
    table = biometry_errors.agreement(measured).set_index(["quantity", "route"])["not_measured"]
    assert [table[q, "landmark"] for q in ("bpd", "ofd", "hc")] == [1, 0, 1]
    assert biometry.exchanged_are_flagged(measured)


def test_landmarks_of_a_case_without_a_pixel_size_are_points_only():
    found = found_of(("a", 0, "landmark", A), ("b", 1, "landmark", A))
    table = manifest_of(spacing_row_mm=[np.nan, 2, 2], spacing_col_mm=[np.nan, 1, 1])
    bench = landmark_bench(found, table)
    heads = bench.find_heads()
    assert set(bench.measure_all(heads)["case"]) == {"b"} == bench.measurable
    pd.testing.assert_frame_equal(biometry.points_of(heads), found)


def test_landmarks_have_neither_shapes_nor_volumes():
    bench = landmark_bench(found_of(("a", 0, "landmark", A)))
    assert biometry.shapes_of_all(bench.test_set, bench.tested).empty
    assert volumes_of(bench).empty


def test_guesses_stand_once_in_the_agreement_however_many_seeds():
    one = found_of(("a", 0, "landmark", A), ("a", 0, "mean shape", scaled(A, 2)))
    measured = measure_landmarks(pd.concat([one, one.assign(seed=1)], ignore_index=True))
    table = biometry_errors.agreement(measured).set_index(["quantity", "route"])
    assert table.loc[("ofd", "mean shape"), "n"] == 1
    assert np.isnan(table.loc[("ofd", "mean shape"), "bias_mm"])  # of one value there are no limits


@pytest.mark.parametrize(("kind", "route"), [("none", "ellipse"), ("multicentre", "landmark")])
def test_predictions_are_read_as_05_wrote_them(kind, route, tmp_path):
    evaluated = tmp_path / "05"
    files.write_csv(evaluated / "points.csv", found_of(("a", 0, "landmark", A), ("a", 0, "mean shape", A)))
    regions = pd.DataFrame({"case": ["a", "a"], "fold": 0, "seed": 0, "stage": ["raw", "post"], "class": "head"})
    files.write_csv(evaluated / "cases.csv", pd.concat([regions, regions.assign(**{"class": "other"})]))
    region = builders.ellipse_region((90, 120), (45, 60), 60, 40, 0)
    for stage in ("raw", "post"):
        mask_files.write(
            mask_files.place(evaluated / "predictions", stage, 0, 0, "a", is_volume=False), region.astype(np.uint8)
        )
    manifest, points = manifest_of(fold_group="a", image="a.png", sha256="0"), None if kind == "none" else REFERENCE
    test_set = EvaluationSet(manifest, FOLDS, None, HC18, evaluated, points)
    bench = predictions_of(test_set, biometry.read_predictions(test_set))
    rows = bench.tested[biometry.PREDICTION_COLUMNS].drop_duplicates().values.tolist()
    assert rows == [["a", 0, 0, s] for s in (("raw", "post") if kind == "none" else ("post",))]
    assert biometry.points_of(bench.find_heads())["route"].iloc[0] == route


# Volumes


def volume_bench(folder, predicted, reference, **columns):
    """One volume `a`, and its predicted masks by stage."""
    place = folder / "reference.tif"
    mask_files.write(place, reference)
    classes = ("background", "lesion")
    dataset = replace(HC18, volumes=True, classes=classes, read_mask=lambda paths: mask_files.read(*paths))
    tested = pd.DataFrame([{"case": "a", "fold": 0, "seed": 0, "stage": stage} for stage in predicted])
    for stage, mask in predicted.items():
        mask_files.write(mask_files.place(folder / "predictions", stage, 0, 0, "a", is_volume=True), mask)
    table = manifest_of(slices=3, **({"spacing_slice_mm": 5.0, "image": str(place), "mask": str(place)} | columns))
    table = builders.hashed(table)
    test_set = EvaluationSet(table, FOLDS, None, dataset, folder)
    return predictions_of(test_set, tested, head_classes=[])


def volumes_of(bench):
    return biometry.volumes_of_all(bench.test_set, bench.tested)


def block(voxels, shape=(3, 4, 5)):
    flat = np.zeros(np.prod(shape), np.uint8)
    flat[:voxels] = 1
    return flat.reshape(shape)


def test_voxels_and_millilitres_of_a_volume_counted_by_hand(tmp_path):
    bench = volume_bench(tmp_path, {"raw": block(30), "post": block(25)}, block(20))
    table = volumes_of(bench)  # a voxel is 5 * 2 * 1 mm^3 = 0.01 ml
    assert table.columns.tolist() == biometry.VOLUME_COLUMNS
    assert table[["stage", "reference_voxels", "predicted_voxels"]].values.tolist() == [
        ["raw", 20, 30],
        ["post", 20, 25],
    ]
    assert table["reference_ml"].tolist() == pytest.approx([0.2, 0.2])
    assert table["predicted_ml"].tolist() == pytest.approx([0.3, 0.25])
    row = biometry_errors.volumes(table).set_index("stage").loc["post"]
    assert (row["error_voxels"], row["error_percent"], row["bias_voxels"]) == (5, 25, 5)
    assert row["error_ml"] == pytest.approx(0.05)


def test_without_the_distance_of_slices_a_volume_has_voxels_and_no_millilitres(tmp_path):
    bench = volume_bench(tmp_path, {"post": block(25)}, block(20), spacing_slice_mm=np.nan)
    table = volumes_of(bench)
    assert table["predicted_voxels"].tolist() == [25]
    assert table[["reference_ml", "predicted_ml"]].isna().all(axis=None)
    assert np.isnan(biometry_errors.volumes(table)["error_ml"].item())


def test_volumes_show_no_heads_and_have_no_flat_shapes(tmp_path):
    bench = volume_bench(tmp_path, {"post": block(25)}, block(20))
    assert bench.find_heads().empty
    assert biometry.shapes_of_all(bench.test_set, bench.tested).empty
    assert bench.measurable == set()


def test_images_have_no_volumes(written, tmp_path):
    table = volumes_of(bench_of(written, tmp_path))
    assert table.empty
    assert table.columns.tolist() == biometry.VOLUME_COLUMNS
    assert tables.to_typst(biometry_errors.volumes(table)) == "nothing to list\n"


# Real data


@pytest.mark.skipif(not all((DATA / name).is_dir() for name in ("hc18", "landmarks")), reason="HC18 is not there")
def test_both_routes_of_hc18_are_judged_by_the_same_reference_to_a_tenth_of_a_millimetre():
    table, _ = landmark_tables.read(DATA / "landmarks", "multicentre")
    found, _ = HC18.find_cases(DATA / "hc18", ())
    rows = [row for _, row in builders.hashed(cases.cases_table(found[::8])).iterrows()]
    ends = head_points.as_arrays(table, [row["case"] for row in rows])
    of_points = pd.DataFrame([biometry.reference_of_points(row, each) for row, each in zip(rows, ends)])
    of_masks = pd.DataFrame([biometry.reference_mm(row, HC18, [1]) for row in rows])
    apart = (of_points - of_masks).abs()  # points are rounded to pixels of 0.05 to 0.33 mm
    assert apart[["bpd", "ofd"]].mean().max() < 0.1
    assert (apart["hc"] == 0).all()  # both have the published one
    axes = zip(of_points["ofd"], of_points["bpd"])
    perimeter = np.array([ellipse.measure_lines(ofd, bpd)["hc"] for ofd, bpd in axes])
    assert np.abs(perimeter - of_points["hc"]).mean() < 0.2
