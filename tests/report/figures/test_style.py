import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from pypdfium2 import PdfDocument

from lib.report import figures
from lib.report.figures import style
from tests.builders_figures import CLASSES, measured, overlap_rows, samples


def draw(folder) -> list[bytes]:
    """A sheet, a chart with boxes and a chart with limits, as bytes."""
    drawn = [
        figures.samples(samples(2, [(0.2, 0.2), None]), CLASSES),
        figures.dice_distribution(overlap_rows([(9, 1, 1), (0, 0, 5), (0, 4, 0)]), CLASSES),
        figures.bland_altman(measured(5)),
    ]
    return [figures.save(figure, folder / str(place)).read_bytes() for place, figure in enumerate(drawn)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> list[bytes]:
    return draw(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "foreign",
    [
        {},
        {"text.usetex": True, "lines.linewidth": 9},
        {"axes.grid": True, "font.size": 20, "savefig.dpi": 30, "image.cmap": "jet", "image.origin": "lower"},
        {"svg.fonttype": "none", "boxplot.notch": True, "axes.prop_cycle": "cycler('color', 'r')"},
    ],
)
def test_a_user_s_matplotlibrc_changes_no_byte_and_is_not_changed(tmp_path, plain, foreign):
    with matplotlib.rc_context(foreign):
        before = dict(matplotlib.rcParams)
        assert draw(tmp_path) == plain
        assert dict(matplotlib.rcParams) == before


def test_a_figure_with_images_is_a_png_and_another_an_svg(tmp_path):
    assert figures.save(figures.samples(samples(), CLASSES), tmp_path / "with.dot").name == "with.dot.png"
    assert figures.save(figures.overfit([1.0, 0.5]), tmp_path / "without").name == "without.svg"


def test_no_text_is_smaller_than_eight_points():
    drawn = [
        figures.samples(samples(2, [(0.2, 0.2), None]), CLASSES),
        figures.dice_distribution(overlap_rows([(9, 1, 1), (0, 0, 5), (0, 4, 0)]), CLASSES),
        figures.dice_bars(overlap_rows([(9, 1, 1), (0, 0, 5)]), CLASSES),
        figures.bland_altman(measured(5)),
        figures.agreement_scatter(measured(5)),
    ]
    for figure in drawn:
        assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 8


def test_a_name_is_drawn_as_it_is_and_a_long_one_keeps_its_start_and_end():
    items = samples(2)
    items.names[:] = ["a$b$c_^{\\x}", "Patient" + "0" * 200 + "_Plane3_1_of_2"]
    figure = figures.samples(items, CLASSES)
    assert [axes.get_title() for axes in figure.axes] == ["a$b$c_^{\\x}", "Patient00000…Plane3_1_of_2"]
    assert not figure.axes[0].title.get_parse_math()


def test_a_sheet_of_tall_images_is_no_higher_than_half_a_page():
    items = samples(12)
    items.images[:] = items.masks[:] = [np.zeros((90, 30), np.uint8)] * 12
    figure = figures.samples(items, CLASSES)
    assert figure.get_size_inches() * 25.4 == pytest.approx([160, 110])


@pytest.mark.parametrize(("col_mm", "length_mm"), [(0.5, 10), (0.049, 1), (0.1, 2), (6.0, 100)])
def test_a_scale_bar_is_a_round_number_of_millimetres_long(col_mm, length_mm):
    axes = figures.samples(samples(1, [(0.8 * col_mm, col_mm)]), CLASSES).axes[0]
    left, right = axes.lines[0].get_xdata()
    assert axes.texts[0].get_text() == f"{length_mm} mm"
    assert (right - left) * col_mm == pytest.approx(length_mm)
    assert axes.get_aspect() == pytest.approx(0.8)


def test_a_chart_is_also_a_pdf_page_of_its_size_with_equal_bytes_under_any_name(tmp_path):
    names = ("chart", "a b#1 & 'c' \"100% <d>", "ß 漢")
    saved = [figures.save(figures.overfit([1.0, 0.5]), tmp_path / name) for name in names]
    pdfs = [path.with_suffix(".pdf") for path in saved]
    assert len({pdf.read_bytes() for pdf in pdfs}) == 1
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', saved[0].read_text(encoding="utf-8"))
    assert PdfDocument(pdfs[0])[0].get_size() == pytest.approx([float(each) for each in size.groups()], abs=0.1)
    assert np.asarray(PdfDocument(pdfs[0])[0].render().to_pil().convert("L")).min() < 100  # something is drawn
    figures.save(figures.samples(samples(), CLASSES), tmp_path / "images")
    assert not (tmp_path / "images.pdf").exists()


def test_of_many_cases_the_points_are_pixels_and_text_and_boxes_are_not(tmp_path):
    def chart(count):
        columns = {"hc_mm": np.nan, "spacing_row_mm": np.random.default_rng(0).uniform(0.1, 0.3, count)}
        cases = pd.DataFrame(columns | {"height": 32, "width": 48})
        return figures.save(figures.sizes(cases), tmp_path / str(count)).read_text(encoding="utf-8")

    few, many = chart(style.MOST_VECTOR), chart(4 * style.MOST_VECTOR)
    assert few.count("<use ") > style.MOST_VECTOR
    assert "<image" not in few
    assert many.count("<image") == 1
    assert len(many) < len(few)
    assert many.count("<path") > 10  # axes, ticks, box, letters
    page = PdfDocument(tmp_path / f"{4 * style.MOST_VECTOR}.pdf")[0].render(scale=2).to_pil().convert("RGB")
    assert len({pixel for _, pixel in page.getcolors(1 << 20)} - {(255, 255, 255)}) > 10
    assert chart(4 * style.MOST_VECTOR) == many
