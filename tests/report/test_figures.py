"""Figures: bytes that stay, colours that stay, what is counted and said on the axes."""

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lib import statistics
from lib.data.cases import GUESSES, QUANTITIES
from lib.datasets import samples
from lib.evaluation import biometry
from lib.report import figures
from lib.report.figures import style
from lib.report.summaries.dice import per_class

CLASSES = ["background", "parenchyma", "csp"]


@pytest.fixture
def image() -> np.ndarray:
    return np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))


@pytest.fixture
def mask() -> np.ndarray:
    drawn = np.zeros((40, 60), np.uint8)
    drawn[10:30, 15:45] = 1
    drawn[18:22, 25:35] = 2
    return drawn


def overlap_rows(counts: list[tuple[int, int, int]]) -> pd.DataFrame:
    """The long table of 05 for one class and stage, from (tp, fp, fn) of each case."""
    table = pd.DataFrame(counts, columns=["tp", "fp", "fn"])
    total = 2 * table["tp"] + table["fp"] + table["fn"]
    table["case"] = [f"c{place}" for place in range(len(table))]
    dice = 2 * table["tp"] / total.where(total > 0)
    table = table.assign(**{"class": "csp", "stage": "post"}, dice=dice, iou=dice / (2 - dice))
    return table.assign(subject=table["case"], seed=0)


def measured(count: int) -> pd.DataFrame:
    rows = [
        {"case": f"c{i}", "seed": 0, "stage": stage, "route": route, "quantity": quantity, "reference_mm": 100.0 + i}
        for i in range(count)
        for quantity in QUANTITIES
        for route, stage in (("ellipse", "raw"), ("ellipse", "post"), ("baseline", "raw"), ("baseline", "post"))
    ]
    return pd.DataFrame(rows).assign(predicted_mm=lambda t: t["reference_mm"] + (t["reference_mm"] % 3) - 1)


def texts(figure: Figure) -> str:
    """Everything that is written on a figure."""
    found = [axes.get_title() + axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes]
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()] + figure.legends
    found += [label.get_text() for legend in legends for label in legend.get_texts()]
    found += [label.get_text() for axes in figure.axes for label in axes.get_xticklabels() + axes.texts]
    return " ".join(found)


def seen(
    images: list[np.ndarray], masks: list[np.ndarray], spacings_mm: list[tuple[float, float] | None] | None = None
) -> samples.Samples:
    """Cases a, b, … to be drawn."""
    names = [chr(ord("a") + place) for place in range(len(images))]
    return samples.Samples(names, images, masks, spacings_mm or [None] * len(images), [0] * len(images))


def test_a_figure_with_images_is_a_png_and_another_an_svg(tmp_path: Path, image: np.ndarray, mask: np.ndarray) -> None:
    shown = figures.samples(seen([image], [mask]), CLASSES)
    assert figures.save(shown, tmp_path / "with.dot").name == "with.dot.png"
    assert figures.save(figures.overfit([1.0, 0.5]), tmp_path / "without").name == "without.svg"


def test_equal_figures_are_equal_bytes(tmp_path: Path, image: np.ndarray, mask: np.ndarray) -> None:
    def draw() -> list[Figure]:
        return [
            figures.samples(seen([image, image], [mask, mask], [(0.2, 0.2), None]), CLASSES),
            figures.dice_distribution(overlap_rows([(9, 1, 1), (0, 0, 5), (0, 4, 0)]), CLASSES),
            figures.bland_altman(measured(5)),
        ]

    first = [figures.save(figure, tmp_path / f"first{i}").read_bytes() for i, figure in enumerate(draw())]
    again = [figures.save(figure, tmp_path / f"again{i}").read_bytes() for i, figure in enumerate(draw())]
    assert first == again


@pytest.mark.parametrize(
    "foreign",
    [
        {"text.usetex": True},
        {"axes.grid": True, "font.size": 20, "savefig.dpi": 30, "image.cmap": "jet", "image.origin": "lower"},
        {
            "svg.fonttype": "none",
            "lines.linewidth": 9,
            "boxplot.notch": True,
            "axes.prop_cycle": "cycler('color', 'r')",
        },
    ],
)
def test_a_person_s_matplotlibrc_changes_no_byte(tmp_path: Path, image: np.ndarray, mask: np.ndarray, foreign) -> None:
    def draw(folder: Path) -> list[bytes]:
        drawn = [
            figures.samples(seen([image, image], [mask, mask], [(0.2, 0.2), None]), CLASSES),
            figures.dice_distribution(overlap_rows([(9, 1, 1), (0, 0, 5), (0, 4, 0)]), CLASSES),
            figures.bland_altman(measured(5)),
        ]
        return [figures.save(figure, folder / str(i)).read_bytes() for i, figure in enumerate(drawn)]

    plain = draw(tmp_path / "plain")
    with matplotlib.rc_context(foreign):
        assert draw(tmp_path / "foreign") == plain


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figures.save(figures.overfit([1.0, 0.5]), tmp_path / "x")
    assert dict(matplotlib.rcParams) == before


def test_a_class_has_one_colour_whatever_stands_beside_it() -> None:
    assert style.class_colour("csp") != style.class_colour("lv")
    assert style.class_colour("never seen before") == style.class_colour("never seen before")


def test_every_sheet_has_the_width_of_the_printed_column(image: np.ndarray, mask: np.ndarray) -> None:
    for count in (1, 3, 6, 12):
        sheet = figures.samples(seen([image] * count, [mask] * count), CLASSES)
        assert sheet.get_figwidth() * 25.4 == pytest.approx(160)


def test_contours_of_a_reference_and_a_prediction_run_midway_between_pixels(
    image: np.ndarray, mask: np.ndarray
) -> None:
    item = samples.Overlay("a", image, mask, np.zeros_like(mask), None, "Dice 0.000")
    axes = figures.overlays([item], CLASSES).axes[0]
    outer = axes.collections[0].get_paths()[0].vertices
    assert outer.min(axis=0) == pytest.approx([14.5, 9.5])  # x, y
    assert outer.max(axis=0) == pytest.approx([44.5, 29.5])


def test_a_region_cut_by_the_frame_is_drawn_closed(image: np.ndarray) -> None:
    whole = np.ones((40, 60), np.uint8)
    axes = figures.samples(seen([image], [whole]), ["background", "head"]).axes[0]
    line = axes.collections[0].get_paths()[0].vertices
    assert line.max(axis=0) == pytest.approx([59.5, 39.5])


def test_a_scale_bar_is_a_round_number_of_millimetres_long(image: np.ndarray, mask: np.ndarray) -> None:
    axes = figures.samples(seen([image], [mask], [(0.4, 0.5)]), CLASSES).axes[0]
    left, right = axes.lines[0].get_xdata()
    assert axes.texts[0].get_text() == "10 mm"
    assert (right - left) * 0.5 == pytest.approx(10)
    assert axes.get_aspect() == pytest.approx(0.8)


def test_more_than_twelve_overlays_are_refused(image: np.ndarray, mask: np.ndarray) -> None:
    item = samples.Overlay("a", image, mask, mask, None, "")
    with pytest.raises(ValueError, match="13 overlays; a sheet holds at most 12"):
        figures.overlays([item] * 13, CLASSES)


def test_missed_and_invented_structures_are_drawn_apart_and_absent_ones_not_at_all() -> None:
    table = overlap_rows([(9, 1, 1), (8, 1, 3), (0, 0, 5), (0, 4, 0), (0, 0, 0)])
    axes = figures.dice_distribution(table, ["background", "csp"]).axes[0]
    shown, missed, invented = (len(points.get_offsets()) for points in axes.collections)
    assert (shown, missed, invented) == (3, 1, 1)
    assert "n = 3" in axes.get_xticklabels()[0].get_text()


def history(**columns: object) -> pd.DataFrame:
    """A history.csv of three epochs, some of its columns changed."""
    table = pd.DataFrame({"epoch": [1, 2, 3], "best": [True, True, False], "learning_rate": 1e-3})
    for name in ("train_loss", "validation_loss", "train_selection", "selection"):
        table[name] = 0.5
    for name in CLASSES[1:]:
        table[f"validation_dice_{name}"] = 0.5
    return table.assign(**columns)


def test_the_kept_epoch_is_marked() -> None:
    assert "kept: epoch 2" in texts(figures.training_curves(history(), CLASSES))


def test_training_curves_show_each_column_of_the_history() -> None:
    drawn = history(
        train_loss=[3.0, 2.0, 1.0],
        train_selection=[0.1, 0.2, 0.3],
        selection=[0.4, 0.6, 0.5],
        validation_dice_csp=[0.7, 0.8, 0.9],
    )
    loss, dice, rate = figures.training_curves(drawn, CLASSES).axes
    shown = {line.get_label(): list(line.get_ydata()) for line in dice.lines if not line.get_label().startswith("kept")}
    assert shown == {
        "training": [0.1, 0.2, 0.3],
        "validation, parenchyma": [0.5] * 3,
        "validation, csp": [0.7, 0.8, 0.9],
        "validation, chooses": [0.4, 0.6, 0.5],
    }
    assert list(loss.lines[0].get_ydata()) == [3.0, 2.0, 1.0]
    assert list(rate.lines[0].get_ydata()) == [1e-3] * 3


def test_training_curves_of_landmarks_show_an_error_and_what_a_blank_map_scores() -> None:
    drawn = history(validation_error_percent=[9.0, 4.0, 5.0], train_selection=[-12.0, -6.0, -3.0])
    figure = figures.training_curves(drawn, ["background", "head"])
    loss, error, _ = figure.axes
    lines = {line.get_label(): list(line.get_ydata()) for line in [*loss.lines, *error.lines]}
    assert lines["blank map"] == [1, 1]
    assert lines["validation, chooses"] == [9, 4, 5]
    assert list(error.lines[0].get_ydata()) == [12, 6, 3]
    assert "Error (% of OFD)" in texts(figure)


def test_limits_of_agreement_are_written_at_their_lines() -> None:
    table = measured(9)
    limits = statistics.limits_of_agreement(np.array([(100 + i) % 3 - 1 for i in range(9)], float))
    figure = figures.bland_altman(table)
    assert "BPD, n = 9" in texts(figure)
    assert f"{limits[1]:+.2f}".replace("-", "−") in texts(figure)


def test_the_baseline_is_drawn_once_a_case() -> None:
    assert "training mean, n = 4 predicted, n = 4" in texts(figures.agreement_scatter(measured(4)))


def test_cases_are_counted_once_however_many_seeds_predicted_them() -> None:
    both = pd.concat([measured(4), measured(4).assign(seed=1)])
    figure = figures.agreement_scatter(both)
    assert "training mean, n = 4 predicted, n = 4" in texts(figure)
    assert [len(points.get_offsets()) for points in figure.axes[0].collections] == [4, 8]  # baseline once, each seed
    assert "HC, n = 4" in texts(figures.bland_altman(both))
    overlaps = pd.concat([overlap_rows([(9, 1, 1), (8, 1, 3)])] * 2)
    axes = figures.dice_distribution(overlaps, ["background", "csp"]).axes[0]
    assert "n = 2" in axes.get_xticklabels()[0].get_text()


def test_the_training_curve_lies_below_the_others_and_is_thicker() -> None:
    for axes in figures.training_curves(history(), CLASSES).axes[:2]:
        training, *others = axes.lines
        assert all(training.get_zorder() < line.get_zorder() for line in others)
        assert all(training.get_linewidth() > line.get_linewidth() for line in others)


def shares(rows: dict[str, list[float]]) -> pd.DataFrame:
    """What tables.confusion gives: a row a reference class, shares in percent."""
    table = pd.DataFrame([[name, 1000, *row] for name, row in rows.items()])
    return table.set_axis(["reference", "pixels", *(f"{name}_percent" for name in rows)], axis=1)


def test_a_confusion_is_drawn_in_the_order_of_classes_with_its_shares() -> None:
    table = shares({"csp": [70.04, 10.0, 19.96], "background": [0.0, 99.96, 0.04], "parenchyma": [1.0, 2.0, 97.0]})
    figure = figures.confusion(table, CLASSES)
    (axes,) = figure.axes
    # rows and columns: background, parenchyma, csp
    drawn = np.asarray(axes.images[0].get_array())
    assert drawn == pytest.approx(np.array([[99.96, 0.04, 0], [2, 97, 1], [10, 19.96, 70.04]]))
    written = {tuple(map(round, text.get_position())): text.get_text() for text in axes.texts}
    assert [written[(col, 0)] for col in range(3)] == ["100.0", "0.0", "0.0"]  # (x, y): column, row
    assert [written[(col, 2)] for col in range(3)] == ["10.0", "20.0", "70.0"]
    assert [label.get_text() for label in axes.get_xticklabels()] == CLASSES
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES
    assert "Reference class" in texts(figure)


def test_a_class_that_no_reference_shows_is_written_as_none_in_a_confusion(tmp_path: Path) -> None:
    figure = figures.confusion(shares({"background": [99.0, 1.0], "csp": [np.nan, np.nan]}), ["background", "csp"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["99.0", "1.0", "none", "none"]
    assert figures.save(figure, tmp_path / "confusion").suffix == ".png"


def test_writing_in_a_confusion_stands_out_from_its_ground() -> None:
    figure = figures.confusion(shares({"background": [99.0, 1.0], "csp": [np.nan, np.nan]}), ["background", "csp"])
    assert [text.get_color() for text in figure.axes[0].texts] == ["black", "white", "white", "white"]


# Landmarks


def test_augmented_landmarks_are_drawn_on_their_own_image(image: np.ndarray, mask: np.ndarray) -> None:
    places = np.array([[[10.0, 5], [30, 50], [8, 30], [33, 25]], [[11.0, 6], [31, 51], [9, 31], [34, 26]]])
    figure = figures.augmentations(np.stack([image] * 2), np.stack([mask] * 2), CLASSES, places)
    for axes, drawn in zip(figure.axes, places):
        ends = [np.column_stack([line.get_ydata(), line.get_xdata()]) for line in axes.lines[::2]]
        assert np.array_equal(np.concatenate(ends), drawn)


def overlay(predicted: list[list[float]], image: np.ndarray) -> samples.Overlay:
    reference = np.array([[10.0, 5], [30, 50], [8, 30], [33, 25]])
    return samples.Overlay("a", image, reference, np.array(predicted), (0.2, 0.2), "OFD 1.00 mm, BPD missed")


def test_lines_of_landmarks_run_from_end_to_end_the_reference_below(image: np.ndarray) -> None:
    figure = figures.landmark_overlays([overlay([[11.0, 6], [31, 51], [np.nan, np.nan], [33, 25]], image)])
    lines = figure.axes[0].lines[1:]  # the first is the scale bar
    ends = [np.column_stack([line.get_ydata(), line.get_xdata()]).tolist() for line in lines[:3]]
    assert ends == [[[10, 5], [30, 50]], [[8, 30], [33, 25]], [[11, 6], [31, 51]]]
    assert "OFD 1.00 mm, BPD missed" in texts(figure)
    assert "reference predicted" in texts(figure)


def test_an_end_beyond_the_frame_does_not_make_its_picture_smaller(image: np.ndarray) -> None:
    axes = figures.landmark_overlays([overlay([[-40.0, -90], [200, 200], [8, 30], [33, 25]], image)]).axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 59.5), (39.5, -0.5))


def test_more_than_twelve_overlays_of_landmarks_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="13 overlays; a sheet holds at most 12"):
        figures.landmark_overlays([overlay([[1.0, 1]] * 4, image)] * 13)


def test_both_heatmaps_stand_beside_their_image_on_one_scale(image: np.ndarray, tmp_path: Path) -> None:
    maps = np.zeros((2, 40, 60), np.float32)
    maps[0, 10, 5], maps[1, 8, 30] = 0.5, 1.0
    figure = figures.heatmaps(image, maps, "a")
    shown = [axes.images[0] for axes in figure.axes[1:3]]
    assert [np.asarray(each.get_array()).max() for each in shown] == [0.5, 1.0]
    assert {each.get_clim() for each in shown} == {(0, 1)}
    assert "ends of the OFD" in texts(figure)
    assert figures.save(figure, tmp_path / "heatmaps").suffix == ".png"


def line_errors(values: list[float], line: str = "ofd", route: str = "landmark") -> pd.DataFrame:
    table = pd.DataFrame({"error_mm": values, "error_px": values, "case": [f"c{i}" for i in range(len(values))]})
    return table.assign(line=line, route=route)


def test_every_error_of_a_landmark_is_a_point_and_every_miss_a_cross_above_them() -> None:
    both = pd.concat([line_errors([0.5, 1.0, np.nan]), line_errors([20.0, 30.0, 40.0], route="mean shape")])
    (axes,) = figures.landmark_errors(both).axes
    points, crosses, guesses, none = axes.collections
    assert sorted(points.get_offsets()[:, 1]) == [0.5, 1.0]
    assert crosses.get_offsets()[:, 1].min() > 40
    assert len(guesses.get_offsets()) == 3
    assert len(none.get_offsets()) == 0
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["OFD\nlandmark\nn = 2, 1 missed", "OFD\nmean shape\nn = 3"]
    assert axes.get_yscale() == "log"


def test_errors_of_landmarks_are_in_pixels_where_no_size_is_known(tmp_path: Path) -> None:
    figure = figures.landmark_errors(line_errors([1.0, 2.0]).assign(error_mm=np.nan))
    assert "Distance of the ends (pixels)" in texts(figure)
    assert figures.save(figure, tmp_path / "x").suffix == ".svg"


def test_a_network_that_misses_every_line_leaves_its_guesses_drawn(tmp_path: Path) -> None:
    both = pd.concat([line_errors([np.nan, np.nan]), line_errors([20.0, 30.0], route="mean shape")])
    assert "n = 0, 2 missed" in texts(figures.landmark_errors(both))
    nothing = figures.landmark_errors(line_errors([np.nan, np.nan]))
    figures.save(nothing, tmp_path / "x")


def test_only_the_measuring_route_of_landmarks_and_the_baseline_are_drawn() -> None:
    table = measured(4).query("stage == 'post'").replace({"route": {"ellipse": "landmark"}})
    guesses = [table[table["route"] == "baseline"].assign(route=route, predicted_mm=0.0) for route in GUESSES[1:]]
    figure = figures.agreement_scatter(pd.concat([table, *guesses]))
    assert "training mean, n = 4 predicted, n = 4" in texts(figure)
    assert figure.axes[0].get_xlim()[0] > 50
    assert "HC, n = 4" in texts(figures.bland_altman(pd.concat([table, *guesses])))


# Studies


def pairs(differences: list[float], study: str = "other", quantity: str = "hc") -> pd.DataFrame:
    table = pd.DataFrame({"difference_mm": differences})
    table["case"] = table["subject"] = [f"c{i}" for i in range(len(differences))]
    return table.assign(quantity=quantity, study_a="own", study_b=study, route_b="landmark")


def test_paired_differences_are_a_point_a_case_and_a_panel_a_quantity() -> None:
    long = pd.concat([pairs([1.0, -2.0, 0.5, np.nan]), pairs([9.0], "own"), pairs([3.0, 4.0], quantity="bpd")])
    bpd, hc = figures.paired_differences(long).axes
    assert sorted(hc.collections[0].get_offsets()[:, 0]) == [-2, 0.5, 1]
    assert [label.get_text() for label in bpd.get_yticklabels()] == ["other\nlandmark"]
    assert (bpd.get_title(), hc.get_title()) == ("BPD", "HC")
    assert [axes.texts[0].get_text() for axes in (bpd, hc)] == ["n = 2", "n = 3"]
    assert hc.lines[1].get_xdata()[0] == pytest.approx(-0.5 / 3)  # after the line of no difference


def test_each_other_study_has_a_line_of_its_own_in_every_panel() -> None:
    long = pd.concat([pairs([1.0, 2.0], "b"), pairs([3.0, 4.0], "c"), pairs([5.0, 6.0], "c", "bpd")])
    bpd, hc = figures.paired_differences(long).axes
    assert [label.get_text() for label in bpd.get_yticklabels()] == ["b\nlandmark", "c\nlandmark"]
    heights = [points.get_offsets()[:, 1].mean() for points in (*hc.collections[0::2], bpd.collections[0])]
    assert heights == pytest.approx([0, 1, 1], abs=0.2)


def test_where_nothing_is_compared_the_figure_says_so(tmp_path: Path) -> None:
    for long in (pairs([]), pairs([1.0], "own"), pairs([np.nan])):
        figure = figures.paired_differences(long)
        assert "nothing is compared in millimetres" in texts(figure)
        figures.save(figure, tmp_path / "nothing")


@pytest.mark.parametrize("draw", [figures.agreement_scatter, figures.bland_altman])
def test_without_a_measured_head_the_figure_says_so(draw: Callable[[pd.DataFrame], Figure], tmp_path: Path) -> None:
    for table in (measured(3).iloc[:0], measured(3).iloc[:0].reindex(columns=biometry.COLUMNS)):
        figure = draw(table)
        assert "no head with a pixel size was measured" in texts(figure)
        assert len(figure.axes) == 1
        figures.save(figure, tmp_path / "nothing")


def test_heads_that_were_not_measured_leave_a_figure_without_limits(tmp_path: Path) -> None:
    table = measured(3)
    table.loc[table["route"] == "ellipse", "predicted_mm"] = np.nan
    assert "no head with a pixel size was measured" in texts(figures.bland_altman(table))
    assert "predicted, n = 0" in texts(figures.agreement_scatter(table))


def test_measurements_that_failed_are_not_drawn() -> None:
    table = measured(4)
    table.loc[(table["case"] == "c0") & (table["route"] == "ellipse"), "predicted_mm"] = np.nan
    assert "predicted, n = 3" in texts(figures.agreement_scatter(table))


def test_unknown_sizes_are_left_out_and_n_is_said() -> None:
    table = pd.DataFrame({"hc_mm": [100.0, np.nan], "spacing_row_mm": np.nan, "height": 40, "width": 60})
    figure = figures.sizes(table)
    assert len(figure.axes) == 2
    assert "n = 1" in figure.axes[0].get_xlabel()


def test_bars_of_folds_hold_each_case_once() -> None:
    cases = pd.DataFrame({"case": list("abcde"), "stratum": ["x", "x", "y", "y", ""]})
    dealt = pd.DataFrame({"case": list("abcde"), "fold": [0, 1, 0, 1, 1]})
    figure = figures.folds(cases, dealt)
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 5
    assert "all cases (n = 1)" in texts(figure)


def test_jitter_is_even_and_the_same_each_time() -> None:
    drawn = style.jitter(100, 0.6)
    assert np.array_equal(drawn, style.jitter(100, 0.6))
    assert np.abs(drawn).max() <= 0.3
    assert np.diff(np.sort(drawn)).max() < 0.02  # no gap above three times the even step


def test_the_other_figures_are_drawn(image: np.ndarray, mask: np.ndarray, tmp_path: Path) -> None:
    shapes = pd.DataFrame({"layer": ["a", "b"], "channels": [4, 8], "rows": 8, "cols": 8, "parameters": [40, 300]})
    drawn = [
        figures.preprocessing(seen([image], [mask]), seen([image[::2, ::2]], [mask[::2, ::2]]), CLASSES),
        figures.augmentations(np.stack([image] * 3), np.stack([mask] * 3), CLASSES, None),
        figures.feature_sizes(shapes),
        figures.probability(image, image / 255, "a"),
    ]
    assert "network\n20 × 30" in texts(drawn[0])
    assert "original" in texts(drawn[1])
    assert "340 in these layers" in texts(drawn[2])
    assert all(figures.save(figure, tmp_path / str(i)).stat().st_size > 0 for i, figure in enumerate(drawn))


def test_every_case_has_a_bar_as_high_as_its_dice_in_order_and_mean_and_median_are_said() -> None:
    table = overlap_rows([(2, 1, 1), (0, 0, 4), (9, 1, 1), (0, 0, 0)])  # 2/3, a miss, 0.9, in neither mask
    raw = table.assign(stage="raw", dice=0.1)
    figure = figures.dice_bars(pd.concat([raw, table]), ["background", "csp"])
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0, 2 / 3, 0.9])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["c1", "c0", "c2"]
    assert axes.get_title() == "mean 0.522 (solid), median 0.667 (dashed)"
    assert "(n = 3; not in the reference: absent 1, invented 0)" in axes.get_xlabel()


@pytest.mark.parametrize("seeds", [1, 2])
def test_bars_show_the_mean_median_and_n_of_the_table_though_cases_are_missed_absent_and_invented(seeds: int) -> None:
    counts = [(2, 1, 1), (0, 0, 4), (9, 1, 1), (0, 0, 0), (0, 5, 0), (0, 3, 0)]
    table = pd.concat([overlap_rows(counts).assign(seed=seed) for seed in range(seeds)])
    row = per_class(table).iloc[0]
    (axes,) = figures.dice_bars(table, ["background", "csp"]).axes
    heights = [bar.get_height() for bar in axes.patches]
    assert (len(heights), min(heights)) == (row["n"], row["dice_min"])
    assert np.mean(heights) == pytest.approx(row["dice"])
    assert [line.get_ydata()[0] for line in axes.lines] == [row["dice"], row["dice_median"]]
    assert f"absent {row['absent']}, invented {row['invented']}" in axes.get_xlabel()


def test_bars_of_a_case_with_several_seeds_are_one() -> None:
    table = overlap_rows([(2, 1, 1), (9, 1, 1)])
    figure = figures.dice_bars(pd.concat([table, table.assign(dice=0.5)]), ["background", "csp"])
    assert [bar.get_height() for bar in figure.axes[0].patches] == pytest.approx([(2 / 3 + 0.5) / 2, 0.7])


def test_names_are_left_out_where_there_are_too_many_to_read() -> None:
    figure = figures.dice_bars(overlap_rows([(1, 1, 1)] * 60), ["background", "csp"])
    assert list(figure.axes[0].get_xticks()) == []
    assert len(figure.axes[0].patches) == 60
