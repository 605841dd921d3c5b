import pytest
from matplotlib import font_manager

from lib.report import figures
from lib.report.figures import scripts, style
from tests.builders_figures import write_font


@pytest.fixture(autouse=True)
def bundled_fonts_only(monkeypatch):
    """The fonts that come with matplotlib, as on a machine without others."""
    bundled = [font for font in font_manager.fontManager.ttflist if font.fname.startswith(scripts.get_data_path())]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", bundled)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    forget()
    yield
    forget()


def forget():
    for known in (scripts._family, scripts._own_fonts):
        known.cache_clear()


@style.styled
def drawn(title, tick="a", legend="b"):
    figure, axes = style.panels(60)
    axes[0, 0].set_title(title)
    axes[0, 0].plot([0, 1], label=legend)
    axes[0, 0].set_xticks([0, 1], [tick, "plain"])
    axes[0, 0].legend()
    return figure


def texts(figure):
    axes = figure.axes[0]
    return [axes.get_title(), axes.get_xticklabels()[0].get_text(), axes.get_legend().get_texts()[0].get_text()]


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("漢字_01", "[U+6F22 5B57]_01"),
        ("हिन्दी 7", "[U+0939 093F 0928 094D +2] 7"),
        ("a𠀀b漢", "a[U+20000]b[U+6F22]"),
        *((text, text) for text in ("Жанна Иванова", "Ωμέγα", "محمد", "שלום", "Nguyễn", "e\u0301 \u200b\n–−µ", "😀")),
    ],
)
def test_a_character_without_a_font_is_drawn_as_its_code_in_titles_ticks_and_legends(tmp_path, recwarn, name, printed):
    figure = drawn(name, name, name)
    figures.save(figure, tmp_path / "figure")
    assert texts(figure) == [printed] * 3
    missing = sorted(set(name) - set(printed))
    messages = [str(warning.message) for warning in recwarn]
    assert len(messages) == bool(missing)
    for character in missing:
        assert f"{character} (U+{ord(character):04X})" in messages[0]


def test_a_font_installed_later_draws_its_characters_and_changes_no_byte_elsewhere(tmp_path, monkeypatch, recwarn):
    before = figures.save(drawn("Größe"), tmp_path / "plain").read_bytes()
    without = figures.save(drawn("Größe []"), tmp_path / "without").read_bytes()
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    installed = [str(write_font(tmp_path / "squares.ttf", "漢字")), str(tmp_path / "broken.ttf")]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: installed)
    forget()
    figure = drawn("Größe 漢", "漢字")
    drawn_with = figures.save(figure, tmp_path / "with").read_text()
    assert texts(figure)[:2] == ["Größe 漢", "漢字"]
    assert 'id="Squares-1"' in drawn_with
    assert [str(warning.message) for warning in recwarn] == []
    assert figures.save(drawn("Größe"), tmp_path / "plain").read_bytes() == before
    assert figures.save(drawn("Größe []"), tmp_path / "without").read_bytes() == without
