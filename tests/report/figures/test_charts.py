import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from lib.data.cases import TRIVIAL_BASELINES
from lib.evaluation import biometry
from lib.report import captions, figures
from lib.report.summaries.dice import per_class
from lib.statistics.agreement import limits_of_agreement, proportional_bias
from tests.builders_figures import CLASSES, line_errors, measured, overlap_rows, texts

TWO = ["background", "csp"]


def offsets(points) -> list[float]:
    """Heights of the points of a collection, sorted."""
    return sorted(points.get_offsets()[:, 1])


def heights(axes) -> list[float]:
    return [bar.get_height() for bar in axes.patches]


def labels(written) -> list[str]:
    return [text.get_text() for text in written]


def test_unknown_sizes_are_excluded_and_n_is_printed():
    table = pd.DataFrame({"hc_mm": [100.0, np.nan], "spacing_row_mm": np.nan, "height": 40, "width": 60})
    table = pd.concat([table, table.assign(hc_mm=np.nan, width=80)])
    known, images = figures.sizes(table).axes
    assert offsets(known.collections[0]) == [100]
    assert "n = 1" in known.get_xlabel()
    assert images.collections[0].get_offsets().tolist() == [[60, 40], [80, 40]]
    assert len(figures.sizes(table[table["width"] == 60]).axes) == 1  # one image size is no panel


def test_folds_hold_each_case_once_by_stratum_with_its_range_of_hc_or_by_group_where_strata_are_many():
    cases = pd.DataFrame(
        {"case": list("abcde"), "stratum": ["x", "x", "y lv", "y", ""], "hc_mm": [90, 99.6, 120, 140, None]}
    )
    assigned = pd.DataFrame({"case": list("abcde"), "fold": [0, 1, 0, 1, 1]})
    (axes,) = figures.folds(cases, assigned).axes
    drawn = np.asarray(axes.collections[0].get_array()).reshape(4, 2)
    rows = dict(zip(labels(axes.get_yticklabels()), drawn.tolist()))
    assert rows == {
        "all cases (n = 1)": [0, 1],
        "x, HC 90–100 mm (n = 2)": [1, 1],
        "y, HC 120–140 mm (n = 1)": [0, 1],
        "y LV, HC 120–140 mm (n = 1)": [1, 0],
    }
    many = pd.DataFrame(
        {"case": range(13), "stratum": [f"g{place % 2} {place}" for place in range(13)], "hc_mm": np.nan}
    )
    (axes,) = figures.folds(many, pd.DataFrame({"case": range(13), "fold": 0})).axes
    assert labels(axes.get_yticklabels()) == ["g0 (n = 7)", "g1 (n = 6)"]


def test_a_range_of_head_sizes_is_named_by_it_in_the_figure_of_folds():
    cases = pd.DataFrame({"case": list("abc"), "stratum": ["hc0", "hc0", "hc1 lv"], "hc_mm": [90, 99.6, 120]})
    (axes,) = figures.folds(cases, pd.DataFrame({"case": list("abc"), "fold": 0})).axes
    assert labels(axes.get_yticklabels()) == ["HC 90–100 mm (n = 2)", "HC 120–120 mm LV (n = 1)"]


def test_layers_and_the_loss_on_one_batch_are_drawn_with_their_numbers():
    shapes = pd.DataFrame({"layer": ["a", "b"], "channels": [4, 8], "rows": 8, "cols": 8, "parameters": [40, 300]})
    assert "1\u00a0300" in texts(figures.feature_sizes(shapes.assign(parameters=[40, 1300])))
    figure = figures.feature_sizes(shapes)
    assert "340 in these layers" in texts(figure)
    assert [[bar.get_width() for bar in axes.patches] for axes in figure.axes] == [[256, 512], [40, 300]]
    profile = pd.DataFrame({"part": ["waiting", "forward"], "seconds": [1.0, 3.0], "percent": [25.0, 75.0]})
    figure = figures.epoch_profile(profile)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [25, 75]
    assert {"25.0 % (1.00 s)", "75.0 % (3.00 s)"} <= set(labels(figure.axes[0].texts))
    assert labels(figure.axes[0].get_yticklabels()) == ["waiting", "forward"]
    assert captions.of_epoch_profile(profile) == "An epoch takes 4.0 s: forward 75 %, waiting 25 %."
    assert list(figures.overfit([1.0, 0.5]).axes[0].lines[0].get_ydata()) == [1, 0.5]


def history(**columns: object) -> pd.DataFrame:
    """A history.csv of three epochs, some of its columns changed."""
    names = ["train_loss", "validation_loss", "train_selection", "selection"]
    names += [f"validation_dice_{name}" for name in CLASSES]
    table = pd.DataFrame({"epoch": [1, 2, 3], "best": [True, True, False], "learning_rate": 1e-3})
    return table.assign(**(dict.fromkeys(names, 0.5) | columns))


def curves_of(axes) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines}


def test_training_curves_show_each_column_of_the_history_and_mark_the_selected_epoch_and_the_blank_map_of_landmarks():
    csp, metric = [0.7, 0.8, 0.9], [0.4, 0.6, 0.5]
    drawn = history(train_loss=[3, 2, 1], train_selection=[0.1, 0.2, 0.3], selection=metric, validation_dice_csp=csp)
    loss, dice, rate = figures.training_curves(drawn, CLASSES).axes
    curves = {"training": [0.1, 0.2, 0.3], "validation, parenchyma": [0.5] * 3, "validation, CSP": csp}
    assert curves_of(dice) == curves | {"selection metric": metric, "selected: epoch 2": [0, 1]}
    assert curves_of(loss) == {"training": [3, 2, 1], "validation": [0.5] * 3, "selected: epoch 2": [0, 1]}
    assert list(rate.lines[0].get_ydata()) == pytest.approx([1.0] * 3)
    assert rate.get_title() == "Learning rate × 10³"
    drawn = history(validation_error_percent=[9.0, 4.0, 5.0], train_selection=[-12.0, -6.0, -3.0])
    loss, error, _ = figures.training_curves(drawn, ["background", "head"]).axes
    assert curves_of(loss)["blank map"] == [1, 1]
    assert loss.get_ylim() == (0, 1.5)
    clipped = figures.training_curves(drawn.assign(train_loss=[9.0, 1.5, 1.0]), ["background", "head"]).axes[0]
    marks = [line.get_xydata().tolist() for line in clipped.lines if line.get_marker() == "^"]
    assert marks == [[[1, 1.5]]]  # of training
    assert curves_of(error)["selection metric"] == [9, 4, 5]
    assert curves_of(error)["training"] == [12, 6, 3]
    assert error.get_title() == "Error (% of OFD)"


def test_the_selection_metric_of_a_single_class_is_one_line_with_it():
    drawn = history(validation_dice_csp=[0.4, 0.6, 0.5], selection=[0.4, 0.6, 0.5])
    curves = curves_of(figures.training_curves(drawn, TWO).axes[1])
    assert list(curves) == ["training", "validation, CSP (selection metric)", "selected: epoch 2"]


def test_missed_and_invented_structures_have_their_own_markers_and_absent_ones_none():
    table = overlap_rows([(9, 1, 1), (8, 1, 3), (0, 0, 5), (0, 4, 0), (0, 0, 0)])
    figure = figures.dice_distribution(table, TWO)
    axes = figure.axes[0]
    found, missed, invented = map(offsets, axes.collections)
    assert found == pytest.approx([0.8, 0.9])
    assert (missed, len(invented), invented[0] < 0) == ([0], 1, True)
    assert labels(axes.get_xticklabels()) == ["CSP\nn = 3"]
    assert "missed (n = 1) invented (n = 1)" in texts(figure)
    assert min(axes.get_yticks()) == 0


def test_an_axis_of_dice_fits_the_values_and_a_legend_explains_only_what_is_drawn():
    table = overlap_rows([(9, 1, 1), (8, 1, 3), (0, 0, 0)])
    figure = figures.dice_distribution(table, TWO)
    low, high = figure.axes[0].get_ylim()
    assert (low, high) == (pytest.approx(0.8, abs=0.01), pytest.approx(1, abs=0.01))
    assert not figure.legends
    box = [line for line in figure.axes[0].lines if len(line.get_ydata()) == 2]
    assert pytest.approx(0.85) in [line.get_ydata()[0] for line in box]  # the median of 0.8 and 0.9


def test_both_stages_of_dice_are_drawn_only_if_they_visibly_differ():
    post = overlap_rows([(9, 1, 1), (8, 1, 3)])
    for change, columns in ((0.005, ["CSP\nn = 2"]), (0.02, ["CSP\nbefore\nn = 2", "CSP\nafter\nn = 2"])):
        raw = post.assign(stage="raw", dice=post["dice"] - change)
        axes = figures.dice_distribution(pd.concat([raw, post]), TWO).axes[0]
        assert labels(axes.get_xticklabels()) == columns


@pytest.mark.parametrize(("unit", "word"), [("mm", "mm"), ("px", "pixels")])
def test_every_distance_is_a_point_and_missed_and_invented_structures_are_above_them(unit, word):
    table = overlap_rows([(9, 1, 1), (8, 1, 3), (0, 0, 5), (0, 4, 0), (0, 0, 0)]).assign(diagonal_mm=np.nan)
    table = table.assign(**{f"hd95_{unit}": [0.0, 4.0, *[np.nan] * 3], f"diagonal_{unit}": 100.0})
    axes = figures.hd95_distribution(table, TWO).axes[0]
    points, missed, invented = map(offsets, axes.collections)
    zero, distance = sorted(points)
    assert zero < distance == pytest.approx(4)
    assert axes.lines[0].get_ydata()[0] == pytest.approx(zero)  # the line that is labelled 0
    assert labels(axes.texts) == ["0"]
    without = figures.hd95_distribution(table.assign(**{f"hd95_{unit}": [2.0, 4.0, *[np.nan] * 3]}), TWO).axes[0]
    assert labels(without.texts) == []
    assert (len(missed), len(invented)) == (1, 1)
    assert 4 < missed[0] < invented[0]
    assert axes.get_ylabel() == f"HD95 ({word})"
    assert labels(axes.get_xticklabels()) == ["CSP\nn = 2"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_bars_show_the_mean_median_and_n_of_the_table_though_cases_are_missed_absent_and_invented(seeds):
    counts = [(2, 1, 1), (0, 0, 4), (9, 1, 1), (0, 0, 0), (0, 5, 0), (0, 3, 0)]
    table = pd.concat([overlap_rows(counts).assign(seed=seed) for seed in range(seeds)])
    row = per_class(table).iloc[0]
    (axes,) = figures.dice_bars(pd.concat([table.assign(stage="raw", dice=0.1), table]), TWO).axes
    assert heights(axes) == pytest.approx([0, 2 / 3, 0.9])
    assert labels(axes.get_xticklabels()) == ["c1", "c0", "c2"]
    assert [line.get_ydata()[0] for line in axes.lines] == [row["dice"], row["dice_median"]]
    counts = f"n = 3; not in the reference: absent {row['absent']}, invented {row['invented']}"
    assert axes.get_title() == f"mean 0.522 (solid), median 0.667 (dashed), {counts}"
    # bars of a case with several seeds are one; names are left out where there are too many
    table = overlap_rows([(2, 1, 1), (9, 1, 1)])
    figure = figures.dice_bars(pd.concat([table, table.assign(dice=0.5)]), TWO)
    assert heights(figure.axes[0]) == pytest.approx([(2 / 3 + 0.5) / 2, 0.7])
    many = figures.dice_bars(overlap_rows([(1, 1, 1)] * 60), TWO).axes[0]
    assert (len(many.get_xticks()), len(many.patches)) == (0, 60)


def shares(rows: dict[str, list[float]]) -> pd.DataFrame:
    """Output of dice.confusion: one row per reference class, shares in percent."""
    table = pd.DataFrame([[name, 1000, *row] for name, row in rows.items()])
    return table.set_axis(["reference", "pixels", *(f"{name}_percent" for name in rows)], axis=1)


def test_a_confusion_is_drawn_in_the_order_of_classes_with_its_shares():
    table = shares({"csp": [70.04, 10.0, 19.96], "background": [0.0, 99.96, 0.04], "parenchyma": [1.0, 2.0, 97.0]})
    (axes,) = figures.confusion(table, CLASSES).axes
    drawn = np.asarray(axes.collections[0].get_array()).reshape(3, 3)
    assert drawn == pytest.approx(np.array([[99.96, 0.04, 0], [2, 97, 1], [10, 19.96, 70.04]]))
    written = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}  # at centres of cells
    assert [written[(col, 0)] for col in range(3)] == ["100.0", "0.0", "0.0"]  # (x, y): column, row
    assert [written[(col, 2)] for col in range(3)] == ["10.0", "20.0", "70.0"]
    assert labels(axes.get_xticklabels()) == labels(axes.get_yticklabels()) == ["background", "parenchyma", "CSP"]
    # a class that no reference contains
    axes = figures.confusion(shares({"background": [99.0, 1.0], "csp": [np.nan, np.nan]}), TWO).axes[0]
    assert labels(axes.texts) == ["99.0", "1.0", "none", "none"]
    lightness = [sum(to_rgb(text.get_color())) for text in axes.texts]
    assert lightness[0] > 2.5 > 1 > max(lightness[1:])  # light text only on the dark ground of 99 %


def test_cases_are_counted_once_however_many_seeds_predicted_them_and_limits_are_written():
    both = pd.concat([measured(9), measured(9).assign(seed=1)])
    scatter, limits = figures.agreement_scatter(both), figures.bland_altman(both)
    assert "training mean, n = 9 predicted, n = 9" in texts(scatter)
    assert [len(points.get_offsets()) for points in scatter.axes[0].collections] == [9, 18]  # baseline once, each seed
    differences = np.array([(100 + i) % 3 - 1 for i in range(9)] * 2, float)
    assert "HC, n = 9" in texts(limits)
    assert sorted(limits.axes[2].collections[0].get_offsets()[:, 1]) == sorted(differences)
    found = limits_of_agreement(differences, np.tile(np.arange(9), 2))
    for limit in (found.bias, found.lower, found.upper):
        assert f"{limit.value:+.2f}".replace("-", "−") in texts(limits)
    assert [band.get_y() for band in limits.axes[2].patches] == [e.low for e in (found.bias, found.lower, found.upper)]
    # of landmarks only the measuring route and the baseline are drawn
    table = measured(4).query("stage == 'post'").replace({"route": {"ellipse": "landmark"}})
    baseline, routes = table[table["route"] == "baseline"], TRIVIAL_BASELINES[1:]
    guesses = [baseline.assign(route=route, predicted_mm=0.0) for route in routes]
    figure = figures.agreement_scatter(pd.concat([table, *guesses]))
    assert "training mean, n = 4 predicted, n = 4" in texts(figure)
    assert figure.axes[0].get_xlim()[0] > 50
    assert "HC, n = 4" in texts(figures.bland_altman(pd.concat([table, *guesses])))


def test_limits_slope_where_the_difference_changes_with_size_and_volumes_have_their_own_plot(tmp_path):
    table = measured(30).query("route == 'ellipse' and stage == 'post'")
    table["predicted_mm"] += 0.5 * (table["reference_mm"] - 115)
    axes = figures.bland_altman(table).axes[2]
    one = table[table["quantity"] == "hc"]
    difference, mean = one["predicted_mm"] - one["reference_mm"], (one["predicted_mm"] + one["reference_mm"]) / 2
    bias = proportional_bias(difference, mean, one["subject"]).limits_at(np.array([mean.min(), mean.max()]))[0]
    line = axes.lines[1].get_ydata()
    assert [line[0], line[-1]] == pytest.approx(bias)
    assert not axes.patches
    low, high = axes.collections[1].get_datalim(axes.transData).intervaly  # the band around the bias
    assert low < min(bias)
    assert high > max(bias)
    renamed = {f"{side}_mm": f"{side}_ml" for side in ("predicted", "reference")}
    volumes = one.rename(columns=renamed).assign(**{"class": "lesion", "predicted_voxels": 1, "reference_voxels": 2})
    assert "lesion, n = 30Mean volume (ml)Predicted − reference (ml)" in texts(figures.volume_agreement(volumes))
    without = figures.volume_agreement(volumes.assign(predicted_ml=np.nan, reference_ml=np.nan))
    assert "Mean volume (voxels)" in texts(without)
    assert figures.agreement.NO_VOLUME in texts(figures.volume_agreement(volumes.iloc[:0]))
    figures.save(without, tmp_path / "equal")


def test_failed_measurements_are_not_drawn_and_a_figure_without_heads_says_so(tmp_path):
    table = measured(3)
    ellipse = table["route"] == "ellipse"
    one = table.assign(predicted_mm=table["predicted_mm"].mask(ellipse & (table["case"] == "c0")))
    none = table.assign(predicted_mm=table["predicted_mm"].mask(ellipse))
    assert "predicted, n = 2" in texts(figures.agreement_scatter(one))
    assert "predicted, n = 0" in texts(figures.agreement_scatter(none))
    empty = [table.iloc[:0], table.iloc[:0].reindex(columns=biometry.COLUMNS)]
    for figure in [*map(figures.bland_altman, [none, *empty]), *map(figures.agreement_scatter, empty)]:
        assert figures.agreement.NO_HEAD in texts(figure)
        figures.save(figure, tmp_path / "nothing")


def test_every_error_of_a_landmark_is_a_point_and_every_miss_a_cross_above_them_and_all_may_be_missed(tmp_path):
    both = pd.concat([line_errors([0.5, 1.0, np.nan]), line_errors([20.0, 30.0, 40.0], route="mean shape")])
    (axes,) = figures.landmark_errors(both).axes
    points, crosses, guesses = map(offsets, axes.collections)
    assert (points, guesses) == (pytest.approx([0.5, 1.0]), pytest.approx([20, 30, 40]))
    assert min(crosses) > 40
    assert labels(axes.get_xticklabels()) == ["OFD\nlandmark\nn = 2, 1 missed", "OFD\nmean shape\nn = 3"]
    assert axes.get_yscale() == "log"
    pixels = figures.landmark_errors(line_errors([1.0, 2.0]).assign(error_mm=np.nan))
    assert "(pixels)" in texts(pixels)
    missed = line_errors([np.nan, np.nan])
    guessed = figures.landmark_errors(pd.concat([missed, line_errors([20.0, 30.0], route="mean shape")]))
    assert "n = 0, 2 missed" in texts(guessed)
    assert figures.save(figures.landmark_errors(missed), tmp_path / "x").suffix == ".svg"


def pairs(differences: list[float], study: str = "other", quantity: str = "hc") -> pd.DataFrame:
    table = pd.DataFrame({"difference_mm": differences})
    table["case"] = table["subject"] = [f"c{i}" for i in range(len(differences))]
    return table.assign(quantity=quantity, study_a="own", study_b=study, route_b="landmark")


def test_paired_differences_have_one_point_per_case_and_one_panel_per_quantity():
    long = pd.concat([pairs([1.0, -2.0, 0.5, np.nan]), pairs([9.0], "own"), pairs([3.0, 4.0], quantity="bpd")])
    bpd, hc = figures.paired_differences(long).axes
    assert sorted(hc.collections[0].get_offsets()[:, 0]) == [-2, 0.5, 1]
    assert labels(bpd.get_yticklabels()) == ["other\nlandmark"]
    assert (bpd.get_title(), hc.get_title()) == ("BPD", "HC")
    assert [axes.texts[0].get_text() for axes in (bpd, hc)] == ["n = 2", "n = 3"]
    assert hc.lines[1].get_xdata()[0] == pytest.approx(-0.5 / 3)  # after the line of no difference
    # each other study has a line of its own in every panel
    long = pd.concat([pairs([1.0, 2.0], "b"), pairs([3.0, 4.0], "c"), pairs([5.0, 6.0], "c", "bpd")])
    bpd, hc = figures.paired_differences(long).axes
    assert labels(bpd.get_yticklabels()) == ["b\nlandmark", "c\nlandmark"]
    at = [points.get_offsets()[:, 1].mean() for points in (*hc.collections[0::2], bpd.collections[0])]
    assert at == pytest.approx([0, 1, 1], abs=0.2)


def test_a_figure_without_comparisons_says_so(tmp_path):
    for long in (pairs([]), pairs([1.0], "own"), pairs([np.nan])):
        figure = figures.paired_differences(long)
        assert "is compared" in texts(figure)
        figures.save(figure, tmp_path / "nothing")
