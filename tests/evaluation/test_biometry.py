import re
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from lib import datasets
from lib.data import cases, splits
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import landmark_tables
from lib.evaluation import biometry
from lib.imaging import ellipse, head_points, image_files, mask_files, shapes
from lib.report.summaries import biometry_errors
from lib.study import files
from tests import builders
from tests.builders import Head

HC18 = datasets.DATASETS["hc18"]
DATA = files.ROOT.parent / "shared" / "data"
UNKNOWN = {"spacing_row_mm": np.nan, "spacing_col_mm": np.nan}
DRAWN = {  # six heads of 230 to 300 pixels, where a drawn mask is exact to a tenth of a pixel
    f"{n:03d}_HC": Head(
        f"{n:03d}_HC", (150.2 + n, 199.7 - n), 300 - 14.0 * n, 240 - 12.0 * n, 25.0 * n, (300, 400), 0.1 + 0.05 * n
    )
    for n in range(6)
}


def measure(test_set, predictions, head_classes=("head",), max_axis_ratio=1.7, raised=None):
    """Predicted heads and the long table of their measurements."""
    heads = biometry.find_heads(test_set, predictions, head_classes)
    references = biometry.references_of(test_set, head_classes)
    return heads, biometry.measure_all(heads, references, test_set.folds, max_axis_ratio, [10.0, 400.0], raised or {})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """An evaluation set and its predictions: masks as drawn, of folds 0 and 1, two stages, two seeds."""
    folder = tmp_path_factory.mktemp("drawn")
    table = builders.verified(builders.write_hc18(folder / "raw", list(DRAWN.values()))).cases
    test_set = EvaluationSet(table, splits.assign_folds(table, 3, seed=0), None, HC18, folder)
    tested = test_set.folds.query("fold < 2")[["case", "fold"]]
    keys = pd.DataFrame({"seed": [0, 0, 1, 1], "stage": ["raw", "post"] * 2})
    return test_set, with_masks(test_set, tested.merge(keys, how="cross"), builders.region_of)


def with_masks(test_set, predictions, region_of):
    """Writes the masks of predictions to the paths of 05_evaluation."""
    for row in predictions.to_dict("records"):
        mask = region_of(DRAWN[row["case"]]).astype(np.uint8)
        mask_files.write(test_set.predicted(row["stage"], row["fold"], row["seed"], row["case"]), mask)
    return predictions


def changed(drawn, folder, region_of):
    """The same with other masks, of one seed, after post-processing."""
    test_set = replace(drawn[0], folder=folder)
    return test_set, with_masks(test_set, drawn[1].query("seed == 0 and stage == 'post'"), region_of)


def without_pixel_size(test_set, names):
    table = test_set.cases.copy()
    table.loc[table["case"].isin(names), [*UNKNOWN, "hc_mm"]] = np.nan
    return replace(test_set, cases=table)


def test_a_case_without_a_pixel_size_has_endpoints_and_no_row_in_millimetres(drawn):
    missing = drawn[1]["case"].iloc[0]
    heads, measured = measure(without_pixel_size(drawn[0], [missing]), drawn[1])
    assert set(measured["case"]) == set(drawn[1]["case"]) - {missing}
    assert heads.loc[heads["case"] == missing, ["ofd_mm", "bpd_mm"]].isna().all(axis=None)
    assert heads[head_points.POINT_COLUMNS].notna().all(axis=None)


def of_route(measured, route, quantity):
    return measured[(measured["route"] == route) & (measured["quantity"] == quantity)].reset_index(drop=True)


def test_masks_as_drawn_are_measured_within_a_tenth_of_a_millimetre(drawn):
    _, measured = measure(*drawn)
    assert measured.columns.tolist() == biometry.COLUMNS
    assert len(measured) == len(drawn[1]) * 2 * 3
    assert not measured.duplicated(["case", "seed", "stage", "route", "quantity"]).any()
    rows = measured[measured["route"] == "ellipse"]
    assert (rows["predicted_mm"] - rows["reference_mm"]).abs().max() < 0.1
    for row in rows[rows["quantity"] != "hc"].to_dict("records"):
        head = DRAWN[row["case"]]
        axis = head.major if row["quantity"] == "ofd" else head.minor
        assert row["predicted_mm"] / head.spacing_mm == pytest.approx(axis, abs=0.12)
    assert set(measured["case"]) == biometry.measurable(drawn[0], drawn[1], ["head"]) == set(drawn[1]["case"])
    assert biometry.axes_in_order(measured)
    assert not biometry.axes_in_order(measured.replace({"quantity": {"bpd": "ofd", "ofd": "bpd"}}))


def test_references_are_published_or_else_measured_on_the_mask(drawn):
    test_set, predictions = drawn
    _, measured = measure(test_set, predictions)
    hc, bpd = (of_route(measured, "ellipse", quantity) for quantity in ("hc", "bpd"))
    published = test_set.cases.set_index("case")["hc_mm"]
    assert (hc["reference_mm"].to_numpy() == published.loc[hc["case"]]).all()
    (row,) = test_set.rows([bpd["case"].iloc[0]])
    region = HC18.read_mask(cases.split_paths(row["mask"])) > 0
    expected = ellipse.measure_head(region, (row["spacing_row_mm"], row["spacing_col_mm"]))
    assert bpd["reference_mm"].iloc[0] == expected["bpd"]
    every = {"bpd": 90.0, "ofd": 120.0, "hc": 331.0}
    assert biometry.reference_mm({f"{q}_mm": mm for q, mm in every.items()} | {"mask": "nowhere"}, HC18, [1]) == every


def test_classes_of_the_head_are_joined_before_it_is_measured(tmp_path):
    region = builders.ellipse_region((200, 260), (100.3, 130.2), 200, 160, 15).astype(np.uint8)
    whole = ellipse.measure_head(region > 0, (0.5, 0.5))
    region[90:110, 100:160] *= 3
    path = str(builders.save_png(tmp_path / "m.png", region))
    row = {"bpd_mm": np.nan, "ofd_mm": np.nan, "hc_mm": np.nan, "image": path, "mask": path}
    row |= {"sha256": files.sha256(tmp_path / "m.png"), "spacing_row_mm": 0.5, "spacing_col_mm": 0.5}
    joined = replace(
        HC18, classes=("background", "a", "b", "c"), read_mask=lambda paths: image_files.read_pixels(*paths)
    )
    assert biometry.reference_mm(row, joined, [1, 2, 3]) == whole


def test_the_baseline_is_the_mean_of_the_training_cases_counted_by_hand(drawn):
    test_set, predictions = drawn
    _, measured = measure(test_set, predictions)
    hc = test_set.cases.set_index("case")["hc_mm"]
    for fold in (0, 1):
        train = splits.parts(test_set.folds, fold)["train"]
        rows = of_route(measured, "baseline", "hc").query("fold == @fold")
        assert rows["predicted_mm"].tolist() == pytest.approx([hc[train].mean()] * len(rows))
        assert (rows["flags"] == "").all()
    routes = [of_route(measured, route, "bpd")["reference_mm"] for route in ("ellipse", "baseline")]
    pd.testing.assert_series_equal(*routes)
    references = {train[0]: {"bpd": 1.0, "ofd": 2.0, "hc": 3.0}}  # the others are without a pixel size
    assert biometry.training_mean(test_set.folds, 1, references) == references[train[0]]
    assert np.isnan(list(biometry.training_mean(test_set.folds, 1, {}).values())).all()


def test_nothing_is_measured_without_pixel_sizes_or_head_classes(drawn, tmp_path):
    unknown, none = without_pixel_size(drawn[0], list(DRAWN)), replace(drawn[0], folder=tmp_path / "nowhere")
    for test_set, names, count in ((unknown, ["head"], len(drawn[1])), (none, [], 0)):
        heads, measured = measure(test_set, drawn[1], head_classes=names)
        assert measured.empty
        assert measured.columns.tolist() == biometry.COLUMNS
        assert biometry.axes_in_order(measured)
        assert biometry.longer_bpd_is_flagged(measured)
        assert biometry.flagged(measured).empty
        assert biometry_errors.agreement(measured).empty
        assert biometry.measurable(test_set, drawn[1], names) == set()
        assert heads[head_points.POINT_COLUMNS].notna().all(axis=1).sum() == len(heads) == count
        assert heads[["ofd_mm", "bpd_mm"]].isna().all(axis=None)
        assert biometry.points_of(heads).columns.tolist() == biometry.LANDMARK_COLUMNS


def test_an_empty_prediction_is_nan_with_a_flag_and_has_no_endpoints_and_no_parts(drawn, tmp_path):
    test_set, predictions = changed(drawn, tmp_path, lambda head: np.zeros(head.shape, bool))
    heads, measured = measure(test_set, predictions)
    rows = measured[measured["route"] == "ellipse"]
    assert rows["predicted_mm"].isna().all()
    assert (rows["flags"] == "no ellipse").all()
    assert rows["reference_mm"].notna().all()
    assert biometry.axes_in_order(measured)
    points = biometry.points_of(heads)
    assert len(points) == drawn[1]["case"].nunique()
    assert points[head_points.POINT_COLUMNS].isna().all(axis=None)
    by_source = biometry.structures_of_all(test_set, predictions)[0].set_index("source")
    assert (by_source.loc["predicted", "parts"] == 0).all()
    assert by_source.loc["predicted", [name for name in shapes.COLUMNS if name != "parts"]].isna().all(axis=None)
    assert (by_source.loc["reference", "parts"] == 1).all()


@pytest.mark.parametrize(
    ("bpd", "ofd", "hc", "flags"),
    [
        *((80.0, 100.0, 284.0, ""), (100.0, 170.0, 400.0, ""), (50.0, 100.0, 242.0, "elongated")),
        *((8.0, 10.0, 28.4, "HC out of range"), (150.0, 170.0, 503.0, "HC out of range")),
        *((5.0, 10.0, 24.2, "elongated; HC out of range"), (100.0, 80.0, 284.0, "BPD longer than OFD")),
    ],
)
def test_flags_of_a_head(bpd, ofd, hc, flags):
    found = biometry.flags_of({"bpd": bpd, "ofd": ofd, "hc": hc}, 1.7, [40.0, 400.0])
    assert "; ".join(found) == flags


def test_flags_of_indicators_follow_those_of_the_measurements_and_are_of_the_mask_after_post_processing(drawn):
    case = drawn[1]["case"].iloc[0]
    raised = {(case, 1, "ellipse"): ["elongated", "two regions"]}
    _, measured = measure(*drawn, max_axis_ratio=1.1, raised=raised)
    rows = of_route(measured, "ellipse", "hc").set_index(["case", "seed", "stage"])
    assert rows.loc[(case, 1, "post"), "flags"] == "elongated; two regions"
    assert set(rows["flags"].drop((case, 1, "post"))) == {"elongated"}


def test_a_head_known_in_pixels_only_has_no_millimetres_and_may_have_other_flags():
    head = dict.fromkeys(head_points.POINT_COLUMNS, 1.0) | {"route": "ellipse", "ofd_mm": np.nan, "bpd_mm": np.nan}
    assert {row["flags"] for row in biometry.measure(head, 1.7, [40.0, 400.0])} == {"no pixel size"}
    flags = [row["flags"] for row in biometry.measure(head, 1.7, [40.0, 400.0], ["cut by the frame"])]
    assert flags == ["no pixel size; cut by the frame"] * 3


def test_an_unreadable_mask_is_an_error_and_not_a_missed_head(drawn, tmp_path):
    test_set, predictions = changed(drawn, tmp_path, builders.region_of)
    row = predictions.iloc[0]
    test_set.predicted(row["stage"], row["fold"], row["seed"], row["case"]).write_bytes(b"no image")
    with pytest.raises(ValueError, match=f"{row['case']}.png: cannot be read as an image"):
        biometry.find_heads(test_set, predictions, ["head"])


def test_endpoints_of_masks_are_those_of_the_drawn_axes_in_canonical_order_after_post_processing(drawn):
    heads, measured = measure(*drawn)
    points = biometry.points_of(heads)
    assert points.columns.tolist() == biometry.LANDMARK_COLUMNS
    assert 2 * len(points) == len(heads) == len(drawn[1])
    assert not points.duplicated(["case", "seed", "route"]).any()
    assert (points["route"] == "ellipse").all()
    for row in points.to_dict("records"):
        head = DRAWN[row["case"]]
        expected = head_points.axis_endpoints(head.centre, head.major, head.minor, head.angle_deg)
        ends = np.array([row[name] for name in head_points.POINT_COLUMNS]).reshape(4, 2)
        assert ends == pytest.approx(expected, abs=0.5), head.name  # 0.1 degrees move an endpoint by 0.25
    spacing = np.array([DRAWN[name].spacing_mm for name in heads["case"]])[:, None, None]
    lengths = head_points.line_lengths(heads[head_points.POINT_COLUMNS].to_numpy().reshape(-1, 4, 2) * spacing)
    expected = [of_route(measured, "ellipse", quantity)["predicted_mm"] for quantity in ("ofd", "bpd")]
    assert lengths == pytest.approx(np.transpose(expected), rel=1e-12)


def test_shapes_of_drawn_heads_are_those_of_the_ellipses_one_row_per_case_seed_and_source(drawn):
    table = biometry.structures_of_all(*drawn)[0]
    assert table.columns.tolist() == biometry.SHAPE_COLUMNS
    assert len(table) == (drawn[1]["stage"] == "post").sum() * 2
    assert not table.duplicated(["case", "seed", "class", "source"]).any()
    assert set(table["source"]) == {"reference", "predicted"}
    for row in table.to_dict("records"):
        head = DRAWN[row["case"]]
        area = np.pi / 4 * head.major * head.minor * head.spacing_mm**2
        assert (row["class"], row["parts"]) == ("head", 1)
        assert row["area_mm2"] == pytest.approx(area, rel=0.005)
        assert row["eccentricity"] == pytest.approx(np.sqrt(1 - (head.minor / head.major) ** 2), abs=0.01)
        centroid = (np.array(head.centre) + 0.5) * head.spacing_mm
        assert [row["centroid_row_mm"], row["centroid_col_mm"]] == pytest.approx(centroid.tolist(), abs=0.1)
    test_set, predictions = drawn
    raw = biometry.structures_of_all(test_set, predictions[predictions["stage"] == "raw"])[0]
    assert (len(raw), raw.columns.tolist()) == (0, biometry.SHAPE_COLUMNS)
    table = biometry.structures_of_all(without_pixel_size(test_set, list(DRAWN)), predictions)[0]
    assert table["eccentricity"].notna().all()
    assert table[[name for name in shapes.COLUMNS if name.endswith(("_mm", "_mm2"))]].isna().all(axis=None)


def test_widths_are_those_of_the_ellipses_of_the_csp_and_ventricles_alone_where_the_pixel_size_is_known(drawn):
    test_set, predictions = drawn
    assert biometry.structures_of_all(*drawn)[1].columns.tolist() == biometry.WIDTH_COLUMNS
    assert biometry.structures_of_all(*drawn)[1].empty  # a head is neither
    ventricles = replace(test_set, dataset=replace(HC18, classes=("background", "lv")))
    _, widths = biometry.structures_of_all(ventricles, predictions)
    assert len(widths) == (predictions["stage"] == "post").sum()
    assert set(zip(widths["class"], widths["part"], widths["outcome"])) == {("lv", 1, "both")}
    for row in widths.to_dict("records"):
        expected = DRAWN[row["case"]].minor * DRAWN[row["case"]].spacing_mm
        assert (row["reference_mm"], row["predicted_mm"]) == pytest.approx((expected, expected), rel=0.01)
    assert biometry.structures_of_all(without_pixel_size(ventricles, list(DRAWN)), predictions)[1].empty


# Landmarks of three cases, one per fold, with pixels of 2 mm by 1 mm. In case "a", OFD runs from (0, 0) to (30, 80),
# that is (60, 80) mm or 100 mm; BPD from (20, 0) to (0, 30), that is (40, 30) mm or 50 mm.
A = np.array([0.0, 0, 30, 80, 20, 0, 0, 30])
REVERSED, SWAPPED = A[[2, 3, 0, 1, 6, 7, 4, 5]], A[[4, 5, 6, 7, 0, 1, 2, 3]]
NAMES = pd.Series(list("abc"))
FOLDS = pd.DataFrame({"case": NAMES, "subject": NAMES, "fold_group": NAMES, "fold": range(3), "validates": True})
REFERENCE = pd.DataFrame([A, 0.5 * A, 2 * A], columns=head_points.POINT_COLUMNS).assign(case=NAMES)


def manifest_of(**columns):
    table = {"case": NAMES, "subject": NAMES, "split": "", "stratum": "", "slices": 1, "mask": "none.png"}
    table |= {"spacing_row_mm": 2.0, "spacing_col_mm": 1.0, "height": 90, "width": 120}
    return pd.DataFrame(table | columns).reindex(columns=cases.CASE_COLUMNS)


def predicted(*rows):
    """Landmarks as predicted by 05, from rows of (case, fold, route, endpoints)."""
    table = pd.DataFrame([[case, case, fold, 0, route, *ends, 0.9, 0.8] for case, fold, route, ends in rows])
    return table.set_axis(biometry.LANDMARK_COLUMNS, axis=1).assign(stage="post")


def landmark_set(points=REFERENCE, folder="nowhere", **columns):
    return EvaluationSet(manifest_of(**columns), FOLDS, None, HC18, folder, points)


def measure_landmarks(*routes, max_axis_ratio=1.7, **columns):
    """The long table of case "a", from pairs of (route, endpoints)."""
    rows = predicted(*(("a", 0, route, ends) for route, ends in routes))
    return measure(landmark_set(**columns), rows, max_axis_ratio=max_axis_ratio)[1]


def quantities(measured, route, column="predicted_mm"):
    return measured[measured["route"] == route].set_index("quantity")[column].to_dict()


@pytest.mark.parametrize(
    ("columns", "ends", "ofd_bpd_hc", "references"),
    [
        # each axis has its pixel size; the order of endpoints does not matter
        ({}, 1.1 * A, (110, 55, builders.perimeter(110, 55)), (100, 50, builders.perimeter(100, 50))),
        ({}, REVERSED, (100, 50, builders.perimeter(100, 50)), (100, 50, builders.perimeter(100, 50))),
        # a published HC is the reference; published axes do not replace published points
        ({"hc_mm": [250.0, np.nan, np.nan]}, A, (100, 50, builders.perimeter(100, 50)), (100, 50, 250)),
        ({"ofd_mm": 123.0, "bpd_mm": 45.0}, A, (100, 50, builders.perimeter(100, 50)), (100, 50, 242.21)),
    ],
)
def test_landmarks_are_measured_in_millimetres_by_hand(columns, ends, ofd_bpd_hc, references):
    measured = measure_landmarks(("landmark", ends), **columns)
    assert measured.columns.tolist() == biometry.COLUMNS
    for column, expected in (("predicted_mm", ofd_bpd_hc), ("reference_mm", references)):
        values = quantities(measured, "landmark", column)
        assert [values[q] for q in ("ofd", "bpd", "hc")] == pytest.approx(expected, rel=1e-5)
    assert set(measured["stage"]) == {"post"}
    assert (measured["flags"] == "elongated").equals(
        measured["route"] == "landmark"
    )  # the ratio of 2 is above the limit


def test_the_baseline_of_landmarks_is_the_mean_of_the_training_references():
    measured = measure_landmarks(("landmark", A), ("mean shape", A), ("blank map", [44.5, 59.5] * 4))
    expected = {"ofd": 200, "bpd": 100, "hc": builders.perimeter(200, 100)}  # a is tested, b validates, c trains
    assert quantities(measured, "baseline") == pytest.approx(expected, rel=1e-9)
    assert (measured["route"] == "baseline").sum() == 3  # once, not once per route
    assert quantities(measured, "blank map") == {"bpd": 0, "ofd": 0, "hc": 0}
    assert set(quantities(measured, "blank map", "flags").values()) == {""}


def test_a_bpd_longer_than_the_ofd_is_flagged_and_kept():
    measured = measure_landmarks(("landmark", SWAPPED), max_axis_ratio=2.5)
    expected = {"ofd": 50, "bpd": 100, "hc": builders.perimeter(100, 50)}
    assert quantities(measured, "landmark") == pytest.approx(expected, rel=1e-9)
    assert set(quantities(measured, "landmark", "flags").values()) == {"BPD longer than OFD"}
    assert biometry.longer_bpd_is_flagged(measured)
    assert not biometry.longer_bpd_is_flagged(measured.assign(flags=""))
    assert biometry.axes_in_order(measured)  # checks ellipses only
    assert biometry.flagged(measured)["flags"].tolist() == ["BPD longer than OFD"]


def test_a_missed_line_is_nan_and_leaves_the_other_measured():
    measured = measure_landmarks(("landmark", [*A[:6], np.nan, np.nan]))
    expected = {"ofd": 100, "bpd": np.nan, "hc": np.nan}
    assert quantities(measured, "landmark") == pytest.approx(expected, nan_ok=True)
    assert set(quantities(measured, "landmark", "flags").values()) == {"no peak"}
    assert biometry.longer_bpd_is_flagged(measured)


def test_landmarks_of_a_case_without_a_pixel_size_are_points_only_and_have_no_shapes_or_volumes():
    rows = predicted(("a", 0, "landmark", A), ("b", 1, "landmark", A))
    test_set = landmark_set(spacing_row_mm=[np.nan, 2, 2], spacing_col_mm=[np.nan, 1, 1])
    heads, measured = measure(test_set, rows)
    assert set(measured["case"]) == {"b"} == biometry.measurable(test_set, rows, ["head"])
    pd.testing.assert_frame_equal(biometry.points_of(heads), rows[biometry.LANDMARK_COLUMNS])
    assert biometry.structures_of_all(test_set, rows)[0].empty
    assert biometry.volumes_of_all(test_set, rows).empty


def test_predictions_are_read_as_05_wrote_them(tmp_path):
    written = predicted(("a", 0, "landmark", A), ("a", 0, "mean shape", A))
    files.write_csv(tmp_path / "points.csv", written.drop(columns="stage"))
    regions = pd.DataFrame({"case": ["a", "a"], "fold": 0, "seed": 0, "stage": ["raw", "post"], "class": "head"})
    files.write_csv(tmp_path / "cases.csv", pd.concat([regions, regions.assign(**{"class": "other"})]))
    pd.testing.assert_frame_equal(biometry.read_predictions(landmark_set(folder=tmp_path)), written)
    of_masks = replace(landmark_set(None, tmp_path), dataset=replace(HC18, classes=("background", "head", "other")))
    masks = biometry.read_predictions(of_masks)
    assert masks.values.tolist() == [["a", 0, 0, "raw"], ["a", 0, 0, "post"]]
    # In a quick pass only those of its test cases are read, each under its own fold.
    for limited, is_kept in (({0: {"test": ["a"]}}, True), ({0: {"test": ["b"]}, 1: {"test": ["a"]}}, False)):
        for whole, rows in ((landmark_set(folder=tmp_path), written), (of_masks, masks)):
            assert len(biometry.read_predictions(replace(whole, limited=limited))) == is_kept * len(rows)


TWICE, MISSING, EXTRA = ("aab", "two rows for a"), ("a", "no row for b"), ("abc", "a row for c")
ADVICE = "expected one row for each test case of the fold; rerun 05_evaluation"


@pytest.mark.parametrize("of_points", [True, False])
@pytest.mark.parametrize(("names", "fault"), [TWICE, MISSING, EXTRA, ("abx", "a row for x")])
def test_two_missing_and_extra_predictions_are_refused_by_case(tmp_path, of_points, names, fault):
    whole = landmark_set(REFERENCE if of_points else None, tmp_path)
    test_set = replace(whole, folds=FOLDS.assign(fold=[0, 0, 1]))
    regions = {"fold": 0, "seed": 0, "stage": "post", "class": "head"}
    files.write_csv(tmp_path / "cases.csv", pd.DataFrame({"case": list(names)}).assign(**regions))
    points = predicted(*((name, 0, "landmark", A) for name in names)).drop(columns="stage")
    files.write_csv(tmp_path / "points.csv", points)
    kind = "route landmark" if of_points else "stage post, class head"
    file = "points.csv" if of_points else "cases.csv"
    with pytest.raises(ValueError, match=re.escape(f"{file}: {fault} (fold 0, seed 0, {kind}); {ADVICE}")):
        biometry.read_predictions(test_set)


def test_a_class_that_the_study_does_not_know_is_refused(tmp_path):
    rows = {"fold": 0, "seed": 0, "stage": "post", "class": ["head", "tumour"]}
    files.write_csv(tmp_path / "cases.csv", pd.DataFrame({"case": ["a", "a"]} | rows))
    with pytest.raises(ValueError, match=r"cases\.csv, column class: tumour; expected head$"):
        biometry.read_predictions(landmark_set(None, tmp_path))


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (np.zeros((4, 6), np.uint8), "size (4, 6); expected (90, 120), as the image of a; rerun 05_evaluation"),
        (np.full((90, 120), 3, np.uint8), "class index 3; expected 0 to 1 (background, head)"),
        (
            np.zeros((90, 120, 3), np.uint8),
            "cannot be read as an image: mode RGB; expected class indices in one channel",
        ),
    ],
)
def test_a_prediction_of_another_size_unknown_labels_or_colours_is_refused_by_file(tmp_path, mask, found):
    test_set = landmark_set(None, tmp_path)
    builders.save_png(test_set.predicted("post", 0, 0, "a"), mask)
    row = pd.DataFrame({"case": ["a"], "fold": 0, "seed": 0, "stage": "post", "class": "head"})
    with pytest.raises(ValueError, match=re.escape(f"post/fold0-seed0/a.png: {found}")):
        biometry.find_heads(test_set, row, ["head"])


@pytest.mark.parametrize("column", ["spacing_row_mm", "spacing_col_mm"])
def test_a_pixel_size_of_zero_is_refused_and_an_unknown_one_measures_nothing_in_mm(column):
    for size in (0, -0.1):
        row = {"case": "a", "spacing_row_mm": 0.2, "spacing_col_mm": 0.2, "spacing_slice_mm": 1.0} | {column: size}
        message = f"case a: {column} = {size:g}; expected above 0 mm, or nothing if it is unknown"
        for read in (cases.spacing_mm, partial(cases.sample_mm, is_volume=True)):
            with pytest.raises(ValueError, match=re.escape(message)):
                read(row)
    assert cases.spacing_mm(row | {column: np.nan}) is None
    assert cases.sample_mm(row | {column: 0.2, "spacing_slice_mm": np.nan}, is_volume=True) is None
    assert cases.sample_mm(row | {column: 0.2, "spacing_slice_mm": 3}, is_volume=True) == (3, 0.2, 0.2)


def volume_set(folder, predicted_voxels, **columns):
    """A volume `a` with a reference of 20 voxels, and its predictions of some voxels by stage."""
    mask_files.write(folder / "reference.tif", first_voxels(20))
    dataset = replace(datasets.DATASETS["lgg"], read_mask=lambda paths: mask_files.read(*paths))
    about = {"slices": 3, "height": 4, "width": 5, "spacing_slice_mm": 5.0} | dict.fromkeys(
        ("image", "mask"), str(folder / "reference.tif")
    )
    table = builders.hashed(manifest_of(**(about | columns)))
    test_set = EvaluationSet(table, FOLDS, None, dataset, folder)
    for stage, voxels in predicted_voxels.items():
        mask_files.write(test_set.predicted(stage, 0, 0, "a"), first_voxels(voxels))
    return test_set, pd.DataFrame({"case": "a", "fold": 0, "seed": 0, "stage": list(predicted_voxels)})


def first_voxels(count):
    return (np.arange(60) < count).astype(np.uint8).reshape(3, 4, 5)


def test_voxels_and_millilitres_of_a_volume_counted_by_hand(tmp_path):
    table = biometry.volumes_of_all(*volume_set(tmp_path, {"raw": 30, "post": 25}))  # a voxel is 5 * 2 * 1 mm^3
    assert table.columns.tolist() == biometry.VOLUME_COLUMNS
    counts = table[["stage", "reference_voxels", "predicted_voxels"]]
    assert counts.values.tolist() == [["raw", 20, 30], ["post", 20, 25]]
    assert table["reference_ml"].tolist() == pytest.approx([0.2, 0.2])
    assert table["predicted_ml"].tolist() == pytest.approx([0.3, 0.25])
    unsized = biometry.volumes_of_all(*volume_set(tmp_path, {"post": 25}, spacing_slice_mm=np.nan))
    assert unsized["predicted_voxels"].tolist() == [25]
    assert unsized[["reference_ml", "predicted_ml"]].isna().all(axis=None)


def test_volumes_have_neither_heads_nor_shapes_and_images_no_volumes(drawn, tmp_path):
    volume = volume_set(tmp_path, {"post": 25})
    assert all(
        table.empty for table in (*measure(*volume, head_classes=["lesion"]), biometry.structures_of_all(*volume)[0])
    )
    table = biometry.volumes_of_all(*drawn)
    assert (len(table), table.columns.tolist()) == (0, biometry.VOLUME_COLUMNS)


@pytest.mark.skipif(not all((DATA / name).is_dir() for name in ("hc18", "landmarks")), reason="HC18 is not available")
def test_both_routes_of_hc18_have_the_same_reference_to_a_tenth_of_a_millimetre():
    table, _ = landmark_tables.read(DATA / "landmarks", "multicentre")
    listed, _ = HC18.find_cases(DATA / "hc18", ())
    rows = builders.hashed(cases.cases_table(listed[::8])).to_dict("records")
    ends = head_points.as_arrays(table, [row["case"] for row in rows])
    of_points = pd.DataFrame([biometry.reference_of_points(row, each) for row, each in zip(rows, ends)])
    of_masks = pd.DataFrame([biometry.reference_mm(row, HC18, [1]) for row in rows])
    difference = (of_points - of_masks).abs()  # points are rounded to pixels of 0.05 to 0.33 mm
    assert difference[["bpd", "ofd"]].mean().max() < 0.1
    assert (difference["hc"] == 0).all()  # both are the published HC
    axes = zip(of_points["ofd"], of_points["bpd"])
    perimeter = np.array([ellipse.measure_lines(ofd, bpd)["hc"] for ofd, bpd in axes])
    assert np.abs(perimeter - of_points["hc"]).mean() < 0.2
