import numpy as np
import pandas as pd
import pytest

from lib.datasets import landmark_tables
from lib.imaging import head_points
from lib.imaging.ellipse import Ellipse, ends_of_ellipse
from lib.verification import landmark_audit

CASES = 40
SHAPE = (270, 400)


def severities(findings):
    return [(finding.severity, finding.check.name, finding.case) for finding in findings]


def stops(*checks):
    return [("stop", check, "landmarks") for check in checks]


def drawn_heads(spacing_mm=(0.3, 0.3)):
    """A table of landmarks, a manifest and ellipses in mm that match exactly."""
    draw = np.random.default_rng(6)
    names = [f"{number:03d}_HC" for number in range(CASES)]
    ellipses = {
        name: Ellipse(
            tuple((np.array(SHAPE) / 2 + draw.uniform(-10, 10, 2)) * spacing_mm),
            major := float(draw.uniform(45, 60)),
            major * float(draw.uniform(0.7, 0.88)),
            float(draw.uniform(0, 180)),
        )
        for name in names
    }
    ends = np.stack([ends_of_ellipse(each, spacing_mm) for each in ellipses.values()])
    return table_of(names, ends), manifest_of(names, spacing_mm), ellipses


def table_of(names, heads):
    table = pd.DataFrame(np.asarray(heads).reshape(-1, 8), columns=head_points.POINT_COLUMNS)
    return table.assign(case=names, px_to_mm=np.nan, published_split="")[landmark_tables.TABLE_COLUMNS]


def manifest_of(names, spacing_mm=(0.3, 0.3)):
    row = {"height": SHAPE[0], "width": SHAPE[1]} | dict(zip(("spacing_row_mm", "spacing_col_mm"), spacing_mm))
    return pd.DataFrame([{"case": name} | row for name in names])


def change(table, count, new):
    """A table in which the points of the first `count` cases are new(points)."""
    heads = head_points.as_arrays(table, table["case"].tolist())
    heads[:count] = new(heads[:count])
    return table_of(table["case"].tolist(), heads)


def swap(heads):
    return heads[:, [2, 3, 0, 1]]


def audit_changed(count, new):
    table, manifest, ellipses = drawn_heads()
    return landmark_audit.audit(change(table, count, new), manifest, ellipses)


def audit_one(points, ellipses=None):
    """The audit of one case with four points (row, col): its row and its findings."""
    audited, findings = landmark_audit.audit(table_of(["a"], [points]), manifest_of(["a"]), ellipses or {})
    return audited.iloc[0], severities(findings)


@pytest.mark.parametrize("spacing_mm", [(0.3, 0.3), (0.25, 0.32)])
def test_the_endpoints_of_the_axes_themselves_pass_without_a_finding(spacing_mm):
    table, manifest, ellipses = drawn_heads(spacing_mm)
    audited, findings = landmark_audit.audit(table, manifest, ellipses)
    assert findings == []
    assert audited["case"].tolist() == manifest["case"].tolist()
    assert audited["ofd_mm"].tolist() == pytest.approx([each.major for each in ellipses.values()])
    assert audited["bpd_mm"].tolist() == pytest.approx([each.minor for each in ellipses.values()])
    assert audited["angle_deg"].to_numpy() == pytest.approx(90, abs=1e-4)
    assert (audited["fit"] == "as named").all()
    assert audited[["middle_percent", "outside_percent", "farthest_percent"]].to_numpy().max() < 0.01


def test_swapped_columns_stop_the_study_and_are_identified():
    audited, findings = audit_changed(CASES, swap)
    assert severities(findings) == stops("BPD longer than OFD", "BPD and OFD swapped")
    assert findings[0].found.startswith("40 of 40 cases (100%): 000_HC, 001_HC, 002_HC, 003_HC, 004_HC, …; ")
    assert "the lines of 40 cases fit the reference ellipse" in findings[0].found
    assert findings[1].found.endswith("0 fit as named, 40 fit exchanged, 0 fit neither")
    assert (audited["fit"] == "exchanged").all()


def test_a_problem_in_a_tenth_of_the_cases_is_a_warning_for_each_and_in_more_stops_the_study():
    audited, few = audit_changed(4, swap)
    _, many = audit_changed(5, swap)
    assert [finding.severity for finding in few] == ["warn"] * 8
    assert [finding.case for finding in few] == ["000_HC", "001_HC", "002_HC", "003_HC"] * 2
    assert few[0].found == f"BPD is {audited['bpd_over_ofd'][0]:.2f} times OFD"
    assert [finding.severity for finding in many] == ["stop"] * 2
    assert many[0].found.startswith("5 of 40 cases (12%)")
    facts = landmark_audit.summary(audited).set_index("fact")["value"]
    assert facts[["cases with landmarks", "BPD longer than OFD"]].tolist() == [CASES, 4]
    assert [facts[f"lines fit the ellipse: {fit}"] for fit in landmark_audit.FITS] == [CASES - 4, 4, 0]
    assert facts["ends off the outline, median (px)"] < 0.01
    without_ellipses = landmark_audit.summary(landmark_audit.audit(*drawn_heads()[:2], {})[0])["fact"]
    assert not without_ellipses.str.contains("outline|ellipse").any()


@pytest.mark.parametrize(
    ("bpd", "figure", "value", "check"),
    [
        ([[10, 55], [90, 85]], "angle_deg", np.degrees(np.arctan2(40, 15)), "lines not at right angles"),
        ([[10, 55], [90, 55]], "middle_percent", 15, "midpoints far apart"),
        ([[50, 70], [50, 70]], "shortest_percent", 0, "line too short"),
        ([[50, 70], [52, 70]], "shortest_percent", 100 * 2 / 270, "line too short"),
        ([[50, 70], [63, 70]], "shortest_percent", 100 * 13 / 270, "line too short"),
    ],
)
def test_lines_that_are_impossible_in_a_head_are_detected(bpd, figure, value, check):
    row, findings = audit_one([[50, 20], [50, 120], *bpd])
    assert row[figure] == pytest.approx(value)
    assert ("stop", check, "landmarks") in findings
    assert len(findings) == 1 or check == "line too short"  # its direction and midpoint are arbitrary


def test_points_on_the_frame_are_inside_beyond_it_a_warning_and_far_beyond_it_a_stop():
    table, manifest, _ = drawn_heads()
    outside = ("warn", "point outside the image", "000_HC")
    far = ("stop", "point far outside the image", "000_HC")
    for right, expected in ((399.5, []), (401.0, [outside]), (415.0, [outside, far])):
        # Moves the first head so that the right endpoint of its OFD is in this column.
        shifted = change(table, 1, lambda heads, to=right: heads + np.array([0, to - heads[0, :2, 1].max()]))
        audited, findings = landmark_audit.audit(shifted, manifest, {})
        assert severities(findings) == expected
        assert audited["outside_percent"][0] == pytest.approx(100 * (right - 399.5) / 270)


def test_points_inside_the_skull_by_4_percent_of_the_head_are_off_the_outline():
    audited, findings = audit_changed(CASES, lambda each: 0.92 * each + 0.08 * each.mean(axis=1, keepdims=True))
    assert severities(findings) == stops("endpoint off the outline")
    assert audited["farthest_percent"].to_numpy() == pytest.approx(4, abs=0.01)
    major = np.array([each.major for each in drawn_heads()[2].values()])
    assert audited["ofd_1_off_mm"].to_numpy() == pytest.approx(0.04 * major, rel=1e-3)
    assert audited["ofd_1_off_px"].to_numpy() == pytest.approx(0.04 * major / 0.3, rel=1e-3)
    assert "of all endpoints" in findings[0].found


@pytest.mark.parametrize("ratio", [0.66, 0.8, 0.96, 1.0])
def test_distances_to_the_outline_are_those_to_the_nearest_of_many_positions_on_it(ratio):
    points = np.random.default_rng(8).uniform(-100, 350, (1, 300, 2))
    step = np.linspace(0, 2 * np.pi, 20001)
    cos, sin = np.cos(np.deg2rad(37)), np.sin(np.deg2rad(37))
    along, across = 100 * np.cos(step), 100 * ratio * np.sin(step)
    outline = np.column_stack([100 + along * sin + across * cos, 120 + along * cos - across * sin])
    nearest = [np.linalg.norm(outline - each, axis=1).min() for each in points[0]]
    steps = landmark_audit._to_outline(points, np.array([[100.0, 120.0, 200.0, 200 * ratio, 37.0]]))
    assert np.linalg.norm(steps[0], axis=1) == pytest.approx(nearest, abs=0.005)  # the long axis is 200


@pytest.mark.parametrize(("bpd", "fit"), [(57.0, "as named"), (42.0, "neither")])
def test_lines_rotated_by_50_degrees_match_no_axis_except_in_a_nearly_round_head(bpd, fit):
    ends = head_points.axis_ends((40.0, 60.0), 60.0, bpd, 50.0) / 0.3
    row, findings = audit_one(ends, {"a": Ellipse((40.0, 60.0), 60.0, bpd, 0.0)})
    assert row["fit"] == fit
    assert (("stop", "lines along no axis", "landmarks") in findings) == bool(findings) == (fit == "neither")


@pytest.mark.parametrize(("px_to_mm", "checks"), [(0.3, []), (0.33, ["pixel size differs"])])
def test_a_pixel_size_that_differs_from_that_of_the_data_set_is_a_warning(px_to_mm, checks):
    table, manifest, ellipses = drawn_heads()
    table["px_to_mm"] = [px_to_mm, *[0.3] * (CASES - 1)]
    audited, findings = landmark_audit.audit(table, manifest, ellipses)
    assert severities(findings) == [("warn", check, "000_HC") for check in checks]
    assert audited["pixel_size_percent"][0] == pytest.approx(100 * (px_to_mm / 0.3 - 1))


def test_images_without_a_row_are_left_out_and_rows_without_an_image_counted():
    table, manifest, ellipses = drawn_heads()
    audited, findings = landmark_audit.audit(table[3:], manifest[:30], ellipses)
    expected = [("warn", "no landmarks", "landmarks"), ("note", "rows without an image", "landmarks")]
    assert severities(findings) == expected
    assert findings[0].found == "3 of 30 cases (10%): 000_HC, 001_HC, 002_HC: left out"
    assert findings[1].found.startswith("10 of 37 cases (27%): 030_HC, 031_HC")
    assert audited["case"].tolist() == manifest["case"][3:30].tolist()
    audited, findings = landmark_audit.audit(table[:0], manifest, ellipses)
    assert severities(findings) == stops("no landmarks")
    assert audited.empty


def test_without_pixel_sizes_nothing_is_in_mm_and_without_ellipses_only_the_lines_are_checked():
    table, manifest, ellipses = drawn_heads((1.0, 1.0))
    bare = manifest.assign(spacing_row_mm=np.nan, spacing_col_mm=np.nan)
    audited, findings = landmark_audit.audit(table, bare, ellipses)  # ellipses in pixels
    assert findings == []
    assert audited["ofd_1_off_px"].max() < 0.01
    assert audited[["ofd_mm", "bpd_mm", "ofd_1_off_mm"]].isna().all(axis=None)
    audited, findings = landmark_audit.audit(change(table, CASES, swap), bare, {})
    assert severities(findings) == stops("BPD longer than OFD")
    assert audited[["ofd_mm", "bpd_mm", "farthest_percent", "ofd_1_off_px"]].isna().all(axis=None)
    assert audited["ofd_px"].notna().all()
