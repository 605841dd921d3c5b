import numpy as np
import pandas as pd

from lib.report import tables
from lib.report.summaries import characteristics
from lib.report.summaries.characteristics import Words

IMAGES = Words("image", "examination", "group", ("head", "csp"))
VOLUMES = Words("volume", "patient", "institution", ("lesion",))


def manifest(**columns: list) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    given = {"subject": [f"s{index}" for index in range(count)], "stratum": [""] * count, "slices": [1] * count}
    given |= {"hc_mm": [np.nan] * count, "spacing_row_mm": [np.nan] * count, "height": [540] * count}
    names = [f"c{index}" for index in range(count)]
    return pd.DataFrame({"case": names, "width": [800] * count} | given | columns)


def rows_of(table: dict) -> dict[str, list[str]]:
    """Cells by name of the row, with plain spaces."""
    return {row["name"]: [cell.replace(tables.KEEP, " ") for cell in row["cells"]] for row in table["rows"]}


def test_counts_medians_with_quartiles_and_shares_of_groups_are_those_counted_by_hand():
    hc = [100.0, 110.0, 120.0, 130.0, 200.0]
    table = manifest(
        subject=["a", "a", "b", "c", "d"], stratum=["small csp", "small", "small", "small csp", "large"], hc_mm=hc
    )
    table["spacing_row_mm"] = [0.1, 0.2, 0.3, np.nan, 0.5]
    table["height"] = [540, 541, 540, 540, 540]
    found = characteristics.by_part(table, {"Test": ["c0", "c1", "c4"], "All": list(table["case"])}, None, IMAGES)
    assert found["columns"] == ["Test", "All"]
    assert rows_of(found) == {
        "Images": ["3", "5"],
        "Examinations": ["2", "4"],
        "HC (mm)": ["110.0 [105.0, 155.0]", "120.0 [110.0, 130.0]"],
        "HC, least to largest (mm)": ["100.0 to 200.0", "100.0 to 200.0"],
        "Pixel size (mm)": ["0.200 [0.150, 0.350]", "0.250 [0.175, 0.350]"],
        "Image size (rows × columns)": ["540–541 × 800", "540–541 × 800"],
        "Group large (HC 200.0 to 200.0 mm)": ["1 (33.3 %)", "1 (20.0 %)"],
        "Group small (HC 100.0 to 130.0 mm)": ["2 (66.7 %)", "4 (80.0 %)"],
        "Showing CSP": ["1 (33.3 %)", "2 (40.0 %)"],
    }


def test_a_range_of_head_sizes_is_named_by_it():
    table = manifest(stratum=["hc0", "hc0 csp", "hc1"], hc_mm=[90.0, 99.6, 120.2])
    found = rows_of(characteristics.by_part(table, {"All": list(table["case"])}, None, IMAGES))
    assert [name for name in found if name.endswith("0 mm")] == ["HC 90–100 mm", "HC 120–120 mm"]


def test_volumes_have_slices_and_voxels_and_those_without_a_lesion_are_counted_but_in_no_median():
    table = manifest(slices=[20, 22, 30], stratum=["CS", "DU", "CS"])
    voxels = pd.Series({"c0": 1000, "c1": 0, "c2": 21000})
    found = rows_of(characteristics.by_part(table, {"All": list(table["case"])}, voxels, VOLUMES))
    assert found == {
        "Volumes": ["3"],
        "Slices per volume": ["22.0 [21.0, 26.0]"],
        "Slices in total": ["72"],
        "Voxels of the lesion": ["11 000 [6 000, 16 000]"],
        "Volumes without lesion": ["1 (33.3 %)"],
        "Slice size (rows × columns)": ["540 × 800"],
        "Institution CS": ["2 (66.7 %)"],
        "Institution DU": ["1 (33.3 %)"],
    }


def test_of_many_groups_only_the_number_is_given_and_an_empty_part_has_dashes():
    table = manifest(stratum=[f"g{index}" for index in range(characteristics.MOST_GROUPS + 1)])
    table["hc_mm"] = 100.0
    found = rows_of(characteristics.by_part(table, {"Test": [], "All": list(table["case"])}, None, IMAGES))
    assert found["Groups"] == ["0", str(characteristics.MOST_GROUPS + 1)]
    assert found["HC (mm)"] == [tables.DASH, "100.0 [100.0, 100.0]"]
    assert found["Image size (rows × columns)"][0] == f"{tables.DASH} × {tables.DASH}"
