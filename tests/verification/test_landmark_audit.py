import numpy as np
import pandas as pd
import pytest

from lib.datasets import landmark_tables
from lib.imaging import head_points
from lib.imaging.ellipse import Ellipse, ellipse_endpoints
from lib.verification import landmark_audit

CASES = 40
SHAPE = (270, 400)


def severities(findings):
    return [(finding.severity, finding.check.name, finding.case) for finding in findings]


def stops(*checks):
    return [("stop", check, "landmarks") for check in checks]


def drawn_heads(spacing_mm=(0.3, 0.3)):
    """Ellipses in mm, and a table and a manifest that fit them exactly."""
    draw = np.random.default_rng(6)
    spacing = np.array(spacing_mm)
    names = [f"{number:03d}_HC" for number in range(CASES)]
    ellipses = {
        name: Ellipse(
            tuple((np.array(SHAPE) / 2 + draw.uniform(-10, 10, 2)) * spacing),
            major := float(draw.uniform(45, 60)),
            major * float(draw.uniform(0.7, 0.88)),
            float(draw.uniform(0, 180)),
        )
        for name in names
    }
    ends = np.stack([ellipse_endpoints(each, spacing_mm) for each in ellipses.values()])
    return ellipses, table_of(names, ends), manifest_of(names, spacing_mm)


def table_of(names, heads):
    table = pd.DataFrame(np.asarray(heads).reshape(-1, 8), columns=head_points.POINT_COLUMNS)
    return table.assign(case=names, px_to_mm=np.nan, published_split="")[landmark_tables.TABLE_COLUMNS]


def manifest_of(names, spacing_mm=(0.3, 0.3)):
    row = {"height": SHAPE[0], "width": SHAPE[1]} | dict(zip(("spacing_row_mm", "spacing_col_mm"), spacing_mm))
    return pd.DataFrame([{"case": name} | row for name in names])


def change(table, count, new):
    """A table in which the points of its first cases are new(points)."""
    heads = head_points.as_arrays(table, table["case"].tolist())
    heads[:count] = new(heads[:count])
    return table_of(table["case"].tolist(), heads)


def swap(heads):
    return heads[:, [2, 3, 0, 1]]


def audit_one(points, ellipses=None):
    """The audit of one case of four (row, col): its figures and its findings."""
    figures, findings = landmark_audit.audit(table_of(["a"], [points]), manifest_of(["a"]), ellipses or {})
    return figures.iloc[0], severities(findings)


@pytest.mark.parametrize("spacing_mm", [(0.3, 0.3), (0.25, 0.32)])
def test_the_ends_of_the_axes_themselves_pass_without_a_finding(spacing_mm):
    ellipses, table, manifest = drawn_heads(spacing_mm)
    figures, findings = landmark_audit.audit(table, manifest, ellipses)
    assert findings == []
    assert figures["case"].tolist() == manifest["case"].tolist()
    assert figures["ofd_mm"].tolist() == pytest.approx([each.major for each in ellipses.values()])
    assert figures["bpd_mm"].tolist() == pytest.approx([each.minor for each in ellipses.values()])
    assert figures["angle_deg"].to_numpy() == pytest.approx(90, abs=1e-4)
    assert (figures["fit"] == "as named").all()
    assert figures[["middle_percent", "outside_percent", "farthest_percent"]].to_numpy().max() < 0.01


def test_swapped_columns_stop_and_are_named_for_what_they_are():
    ellipses, table, manifest = drawn_heads()
    figures, findings = landmark_audit.audit(change(table, CASES, swap), manifest, ellipses)
    assert severities(findings) == stops("BPD longer than OFD", "BPD and OFD swapped")
    assert findings[0].found.startswith("40 of 40 cases (100%): 000_HC, 001_HC, 002_HC, 003_HC, 004_HC, …; ")
    assert "the lines of 40 cases fit the reference ellipse" in findings[0].found
    assert findings[1].found.endswith("0 fit as named, 40 fit exchanged, 0 fit neither")
    assert (figures["fit"] == "exchanged").all()


def test_a_fault_of_a_tenth_of_the_cases_warns_of_each_and_of_more_stops_and_is_counted():
    ellipses, table, manifest = drawn_heads()
    figures, few = landmark_audit.audit(change(table, 4, swap), manifest, ellipses)
    _, many = landmark_audit.audit(change(table, 5, swap), manifest, ellipses)
    assert [finding.severity for finding in few] == ["warn"] * 8
    assert [finding.case for finding in few] == ["000_HC", "001_HC", "002_HC", "003_HC"] * 2
    assert few[0].found == f"BPD is {figures['bpd_over_ofd'][0]:.2f} times OFD"
    assert [finding.severity for finding in many] == ["stop"] * 2
    assert many[0].found.startswith("5 of 40 cases (12%)")
    facts = landmark_audit.summary(figures).set_index("fact")["value"]
    assert facts[["cases with landmarks", "BPD longer than OFD"]].tolist() == [CASES, 4]
    assert [facts[f"lines fit the ellipse: {fit}"] for fit in landmark_audit.FITS] == [CASES - 4, 4, 0]
    assert facts["ends off the outline, median (px)"] < 0.01
    bare = landmark_audit.summary(landmark_audit.audit(table, manifest, {})[0])["fact"]
    assert not bare.str.contains("outline|ellipse").any()


@pytest.mark.parametrize(
    ("bpd", "figure", "value", "check"),
    [
        ([[10, 55], [90, 85]], "angle_deg", np.degrees(np.arctan2(40, 15)), "lines not at right angles"),
        ([[10, 55], [90, 55]], "middle_percent", 15, "lines without a common middle"),
        ([[50, 70], [50, 70]], "shortest_percent", 0, "line too short"),
        ([[50, 70], [52, 70]], "shortest_percent", 100 * 2 / 270, "line too short"),
        ([[50, 70], [63, 70]], "shortest_percent", 100 * 13 / 270, "line too short"),
    ],
)
def test_lines_that_no_head_has_are_found(bpd, figure, value, check):
    figures, findings = audit_one([[50, 20], [50, 120], *bpd])
    assert figures[figure] == pytest.approx(value)
    assert ("stop", check, "landmarks") in findings
    assert len(findings) == 1 or check == "line too short"  # whose direction and middle say nothing


def test_points_on_the_frame_are_inside_beyond_it_a_warning_and_far_beyond_it_a_stop():
    _, table, manifest = drawn_heads()
    outside = ("warn", "point outside the image", "000_HC")
    far = ("stop", "point far outside the image", "000_HC")
    for right, expected in ((399.5, []), (401.0, [outside]), (415.0, [outside, far])):
        # The right end of the first OFD at this column, the head moved along.
        shifted = change(table, 1, lambda heads, to=right: heads + np.array([0, to - heads[0, :2, 1].max()]))
        figures, findings = landmark_audit.audit(shifted, manifest, {})
        assert severities(findings) == expected
        assert figures["outside_percent"][0] == pytest.approx(100 * (right - 399.5) / 270)


def test_points_inside_the_skull_by_4_percent_of_the_head_are_off_the_outline():
    ellipses, table, manifest = drawn_heads()
    shrunk = change(table, CASES, lambda heads: 0.92 * heads + 0.08 * heads.mean(axis=1, keepdims=True))
    figures, findings = landmark_audit.audit(shrunk, manifest, ellipses)
    assert severities(findings) == stops("end off the outline")
    assert figures["farthest_percent"].to_numpy() == pytest.approx(4, abs=0.01)
    major = np.array([each.major for each in ellipses.values()])
    assert figures["ofd_1_off_mm"].to_numpy() == pytest.approx(0.04 * major, rel=1e-3)
    assert figures["ofd_1_off_px"].to_numpy() == pytest.approx(0.04 * major / 0.3, rel=1e-3)
    assert "of all ends" in findings[0].found


@pytest.mark.parametrize("ratio", [0.66, 0.8, 0.96, 1.0])
def test_distances_to_the_outline_are_those_of_the_nearest_of_many_places_on_it(ratio):
    points = np.random.default_rng(8).uniform(-100, 350, (1, 300, 2))
    step = np.linspace(0, 2 * np.pi, 20001)
    cos, sin = np.cos(np.deg2rad(37)), np.sin(np.deg2rad(37))
    along, across = 100 * np.cos(step), 100 * ratio * np.sin(step)
    outline = np.column_stack([100 + along * sin + across * cos, 120 + along * cos - across * sin])
    nearest = [np.linalg.norm(outline - each, axis=1).min() for each in points[0]]
    steps = landmark_audit._to_outline(points, np.array([[100.0, 120.0, 200.0, 200 * ratio, 37.0]]))
    found = np.linalg.norm(steps[0], axis=1)
    assert found == pytest.approx(nearest, abs=0.005)  # a long axis of 200, in steps of 0.03


@pytest.mark.parametrize(("bpd", "fit"), [(57.0, "as named"), (42.0, "neither")])
def test_lines_turned_by_50_degrees_fit_under_neither_name_but_for_a_nearly_round_head(bpd, fit):
    ends = head_points.axis_endpoints((40.0, 60.0), 60.0, bpd, 50.0) / 0.3
    figures, findings = audit_one(ends, {"a": Ellipse((40.0, 60.0), 60.0, bpd, 0.0)})
    assert figures["fit"] == fit
    assert (("stop", "lines along no axis", "landmarks") in findings) == bool(findings) == (fit == "neither")


def test_another_pixel_size_than_the_data_set_s_is_found():
    ellipses, table, manifest = drawn_heads()
    table["px_to_mm"] = 0.3
    assert landmark_audit.audit(table, manifest, ellipses)[1] == []
    table["px_to_mm"] = [0.33, *[0.3] * (CASES - 1)]
    figures, findings = landmark_audit.audit(table, manifest, ellipses)
    assert severities(findings) == [("warn", "pixel size differs", "000_HC")]
    assert figures["pixel_size_percent"][0] == pytest.approx(10)


def test_images_without_a_row_are_left_out_and_rows_without_an_image_counted():
    ellipses, table, manifest = drawn_heads()
    figures, findings = landmark_audit.audit(table[3:], manifest[:30], ellipses)
    lost, idle = ("warn", "no landmarks", "landmarks"), ("note", "rows without an image", "landmarks")
    assert severities(findings) == [lost, idle]
    assert findings[0].found == "3 of 30 cases (10%): 000_HC, 001_HC, 002_HC: left out"
    assert findings[1].found.startswith("10 of 37 cases (27%): 030_HC, 031_HC")
    assert figures["case"].tolist() == manifest["case"][3:30].tolist()
    figures, findings = landmark_audit.audit(table[:0], manifest, ellipses)
    assert severities(findings) == stops("no landmarks")
    assert figures.empty


def test_without_pixel_sizes_nothing_is_in_mm_and_without_ellipses_the_lines_alone_are_judged():
    ellipses, table, manifest = drawn_heads((1.0, 1.0))
    bare = manifest.assign(spacing_row_mm=np.nan, spacing_col_mm=np.nan)
    figures, findings = landmark_audit.audit(table, bare, ellipses)  # ellipses in pixels
    assert findings == []
    assert figures["ofd_1_off_px"].max() < 0.01
    assert figures[["ofd_mm", "bpd_mm", "ofd_1_off_mm"]].isna().all(axis=None)
    figures, findings = landmark_audit.audit(change(table, CASES, swap), bare, {})
    assert severities(findings) == stops("BPD longer than OFD")
    assert figures[["ofd_mm", "bpd_mm", "farthest_percent", "ofd_1_off_px"]].isna().all(axis=None)
    assert figures["ofd_px"].notna().all()
