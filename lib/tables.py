"""A table to CSV and Typst, and the views of the long tables that a report prints."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from lib import files, statistics

DIGITS = {"mm": 2, "mm2": 1, "px": 2, "ml": 2, "voxels": 0, "percent": 1, "deg": 1, "seconds": 1}  # by the last word
UNITS = {"mm": "mm", "mm2": "mm²", "px": "pixels", "ml": "ml", "percent": "%", "deg": "°", "seconds": "s"}
WORDS = {
    "dice": "Dice",
    "iou": "IoU",
    "mae": "Mean abs. error",
    "hc": "HC",
    "bpd": "BPD",
    "ofd": "OFD",
    "csp": "CSP",
    "lv": "LV",
    "n": "n",
    "a": "A",
    "b": "B",
    "tp": "TP",
    "fp": "FP",
    "fn": "FN",
    "tn": "TN",
    "sha256": "SHA-256",
}
NAMED = ("class", "quantity", "line", "reference")  # columns whose values are names in WORDS
DETECTION = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp"), "precision": ("tp", "fp")}
GUESSES = ("baseline", "mean shape", "blank map")  # routes that look at no image
WIDE = 12  # columns from which a table is set smaller, so that it fits the page
DASH = "–"
KEEP = "\u00a0"  # a space at which no line is broken


def save(table: pd.DataFrame, path_without_suffix: Path) -> None:
    """Writes <path>.csv with every digit and <path>.typ rounded for reading."""
    folder, name = path_without_suffix.parent, path_without_suffix.name
    files.write_csv(folder / f"{name}.csv", table)
    files.write_text(folder / f"{name}.typ", to_typst(table))


def to_typst(table: pd.DataFrame) -> str:
    """A table as Typst markup with horizontal rules only; a value and its interval share a column."""
    if not len(table.columns):
        return "nothing to list\n"  # Typst knows no table without columns
    printed, names = readable(table), list(shown_columns(table))
    texts = [list(printed.iloc[:, place]) for place in range(len(names))]
    headers = [quoted(broken(text, cells)) for text, cells in zip(printed.columns, texts)]
    sides = ["right" if pd.api.types.is_numeric_dtype(table[name]) else "left" for name in names]
    rows = [", ".join(map(quoted, row)) for row in zip(*texts)]
    narrow = ["#show table: set text(7.4pt)", "#set table(inset: (x: 2pt, y: 3.2pt))"] if len(names) >= WIDE else []
    lines = [
        *narrow,
        "#table(",
        f"  columns: {len(names)}, stroke: none,",
        f"  align: (x, y) => ({', '.join(sides)},).at(x) + if y == 0 {{ bottom }} else {{ top }},",
        f"  table.header(table.hline(stroke: 0.8pt), {', '.join(headers)}, table.hline(stroke: 0.5pt)),",
        *(f"  {row}," for row in rows),
        "  table.hline(stroke: 0.8pt),",
        ")",
    ]
    return "\n".join(lines) + "\n"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table as it is printed: titles as columns, cells as text, a value and its interval in one column."""
    ends = shown_columns(table)
    titles = [title(name) + (f" [95{KEEP}%{KEEP}interval]" if ends[name] else "") for name in ends]
    rows = list(zip(*printed_cells(table).values()))
    return pd.DataFrame(rows, columns=titles, dtype=object)


def printed_cells(table: pd.DataFrame) -> dict[str, list[str]]:
    """Cells as text for reading, by the name of each printed column."""
    return {name: column_cells(table, name, ends) for name, ends in shown_columns(table).items()}


def shown_columns(table: pd.DataFrame) -> dict[str, tuple[str, str] | None]:
    """Columns that are printed, with the ends of their interval where they have one."""
    intervals = find_intervals(list(table.columns))
    hidden = {end for ends in intervals.values() for end in ends}
    return {name: intervals.get(name) for name in table.columns if name not in hidden}


def find_intervals(names: list[str]) -> dict[str, tuple[str, str]]:
    """Columns that have a low and a high end beside them: dice -> (dice_low, dice_high), mae_mm -> (mae_low, …)."""
    found = {}
    for name in names:
        for stem in (name, name.rpartition("_")[0]):
            ends = (f"{stem}_low", f"{stem}_high")
            if stem and ends[0] in names and ends[1] in names and name not in ends:
                found.setdefault(name, ends)
    taken = set()
    return {name: ends for name, ends in found.items() if ends not in taken and not taken.add(ends)}


def column_cells(table: pd.DataFrame, name: str, ends: tuple[str, str] | None) -> list[str]:
    """A column's cells as text for reading."""
    cells = [format_cell(value, name) for value in table[name]]
    if ends is None:
        return cells
    lows, highs = ([format_cell(value, name) for value in table[end]] for end in ends)
    return [f"{cell}{KEEP}[{low},{KEEP}{high}]" if low != DASH else cell for cell, low, high in zip(cells, lows, highs)]


def format_cell(value: object, name: str) -> str:
    """One value, rounded by its column's unit; a missing one is a dash."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return DASH
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace(",", KEEP).replace("-", "−")
    if isinstance(value, float | np.floating):
        return format_float(float(value), name)
    return WORDS.get(str(value), str(value)) if name in NAMED else str(value)


def format_float(value: float, name: str) -> str:
    """A number with the digits of its unit; a dimensionless one too small for three digits keeps three that count.

    A column called "value" holds facts of any unit: whole numbers stay whole, others have three digits that count.
    """
    if name == "value":
        return format_cell(int(value), name) if value.is_integer() else f"{value:.3g}".replace("-", "−")
    unit = name.rpartition("_")[2]
    digits = 3 if name.startswith("spacing") else DIGITS.get(unit, 3)
    if unit not in DIGITS and 0 < abs(value) < 0.0005:
        return f"{value:.3g}".replace("-", "−")
    text = f"{value:.{digits}f}"
    return (text[1:] if float(text) == 0 and text.startswith("-") else text).replace("-", "−")


def title(name: str) -> str:
    """A column's name for reading, its unit in brackets."""
    words = str(name).split("_")
    unit = UNITS.get(words[-1]) if len(words) > 1 else None
    text = " ".join(WORDS.get(word, word) for word in (words[:-1] if unit else words))
    if words[0] not in WORDS:
        text = text[:1].upper() + text[1:]
    return f"{text} ({unit})" if unit else text


def broken(text: str, cells: list[str]) -> str:
    """A title in lines hardly wider than what stands below it, so that a wide table fits the page."""
    width = max([9, *(len(cell) for cell in cells)])
    return "\n".join(textwrap.wrap(text, width, break_long_words=False))


def quoted(text: str) -> str:
    """Text as a Typst string, in which nothing but quote and backslash means anything."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n") + '"'


def per_class(cases: pd.DataFrame) -> pd.DataFrame:
    """Dice and IoU by class and stage, with what the mean leaves out beside it.

    A mean is over the cases whose reference shows the class, a miss counting 0. Absent (in neither mask), missed
    (shown, nothing predicted) and invented (predicted, not shown) cases are counted. With several seeds, each has
    its rows too; n of the rows "all" counts a case once, their other counts are of predictions.

    Args:
        cases: the long table of 05_evaluation, one row a case x class x stage.

    Returns:
        One row a class x stage (x seed); intervals are 95 % from resampling subjects.
    """
    seeds = list(dict.fromkeys(cases["seed"]))
    rows = []
    for (name, stage), group in cases.groupby(["class", "stage"], sort=False):
        rows.append({"class": name, "stage": stage, "seed": "all"} | describe_class(group))
        for seed in seeds if len(seeds) > 1 else []:
            own = describe_class(group[group["seed"] == seed])
            rows.append({"class": name, "stage": stage, "seed": str(seed)} | own)
    table = pd.DataFrame(rows)
    return table if len(seeds) > 1 else table.drop(columns="seed", errors="ignore")


def describe_class(group: pd.DataFrame) -> dict[str, object]:
    """One row of `per_class`."""
    in_reference, in_prediction = group["tp"] + group["fn"] > 0, group["tp"] + group["fp"] > 0
    shown = group[in_reference]
    subjects = shown["subject"].to_numpy()
    dice = statistics.bootstrap(shown["dice"].to_numpy(float), subjects)
    iou = statistics.bootstrap(shown["iou"].to_numpy(float), subjects)
    tp, fp, fn = (int(group[name].sum()) for name in ("tp", "fp", "fn"))
    return {
        "n": int(shown["case"].nunique()),
        "dice": dice.value,
        "dice_low": dice.low,
        "dice_high": dice.high,
        "dice_median": float(shown["dice"].median()),
        "dice_min": float(shown["dice"].min()),
        "iou": iou.value,
        "iou_low": iou.low,
        "iou_high": iou.high,
        "pooled_dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else float("nan"),
        "absent": int((~in_reference & ~in_prediction).sum()),
        "missed": count_missed(group),
        "no_overlap": int((in_reference & (group["tp"] == 0)).sum()),
        "invented": count_invented(group),
    }


def detection(cases: pd.DataFrame) -> pd.DataFrame:
    """Sensitivity, specificity and precision of pixels by class and stage: class, stage, n and each with its interval.

    Means over images in which they are defined: sensitivity where the reference shows the class, precision where the
    prediction does. Pooled ones, of summed counts, stand beside them.
    """
    rows = []
    for (name, stage), group in cases.groupby(["class", "stage"], sort=False):
        row: dict[str, object] = {"class": name, "stage": stage, "n": int(group["case"].nunique())}
        for metric, (hit, other) in DETECTION.items():
            whole = group[hit] + group[other]
            each = (group[hit] / whole.where(whole > 0)).to_numpy(float)
            found = statistics.bootstrap(each, group["subject"].to_numpy())
            row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
            row[f"pooled_{metric}"] = float(group[hit].sum() / whole.sum()) if whole.sum() else float("nan")
        rows.append(row)
    return pd.DataFrame(rows)


def by_part(cases: pd.DataFrame, part: str) -> pd.DataFrame:
    """Dice after post-processing by class and by fold (or group): how results spread over parts of the data.

    Args:
        cases: the long table of 05_evaluation.
        part: the column whose values are the parts.
    """
    post = cases[cases["stage"] == "post"]
    kept = ["n", "dice", "dice_low", "dice_high", "dice_median", "absent", "missed", "no_overlap", "invented"]
    rows = [
        {part: value, "class": name, "cases": int(group["case"].nunique())}
        | {key: each for key, each in describe_class(group).items() if key in kept}
        for value, of_part in post.groupby(part, sort=True)
        for name, group in of_part.groupby("class", sort=False)
    ]
    return pd.DataFrame(rows)


def effect(cases: pd.DataFrame) -> pd.DataFrame:
    """What post-processing changes, paired by case: post minus raw, a row a class.

    Dice is compared where the reference shows the class; misses and inventions are counted in both stages.
    """
    rows = []
    for name, group in cases.groupby("class", sort=False):
        raw, post = (group[group["stage"] == stage].set_index(["case", "seed"]) for stage in ("raw", "post"))
        post = post.loc[raw.index]
        shown = (raw["tp"] + raw["fn"] > 0).to_numpy()
        change = np.where(shown, post["dice"] - raw["dice"], np.nan)
        found = statistics.bootstrap(change, raw["subject"].to_numpy())
        rows.append(
            {
                "class": name,
                "n": int(raw[shown].index.get_level_values("case").nunique()),
                "change": found.value,
                "change_low": found.low,
                "change_high": found.high,
                "better": int((change > 0).sum()),
                "worse": int((change < 0).sum()),
                "missed_raw": count_missed(raw),
                "missed_post": count_missed(post),
                "invented_raw": count_invented(raw),
                "invented_post": count_invented(post),
            }
        )
    return pd.DataFrame(rows)


def count_missed(rows: pd.DataFrame) -> int:
    """Rows whose reference shows the class and whose prediction does not."""
    return int(((rows["tp"] + rows["fn"] > 0) & (rows["tp"] + rows["fp"] == 0)).sum())


def count_invented(rows: pd.DataFrame) -> int:
    """Rows whose prediction shows the class and whose reference does not."""
    return int(((rows["tp"] + rows["fn"] == 0) & (rows["tp"] + rows["fp"] > 0)).sum())


def confusion(long: pd.DataFrame, stage: str = "post") -> pd.DataFrame:
    """Where the pixels of each reference class go, summed over runs: a row a reference class, shares in percent.

    Args:
        long: confusion.csv of 05_evaluation.
        stage: raw or post.
    """
    rows = long[long["stage"] == stage]
    counts = rows.pivot_table(index="reference", columns="predicted", values="pixels", aggfunc="sum", sort=False)
    shares = counts.div(counts.sum(axis=1).where(lambda total: total > 0), axis=0) * 100
    shares.columns = [f"{name}_percent" for name in shares.columns]
    table = shares.reset_index()
    table.insert(1, "pixels", counts.sum(axis=1).to_numpy())
    return table


def shapes(long: pd.DataFrame) -> pd.DataFrame:
    """Predicted structures against reference ones, by class: area, place and form, over cases that show both.

    Args:
        long: shapes.csv of 06_biometry, a row a case x seed x class x source.
    """
    rows = []
    for name, group in long.groupby("class", sort=False):
        key = ["case", "seed"]
        one, other = (group[group["source"] == source].set_index(key) for source in ("reference", "predicted"))
        other = other.loc[one.index]
        both = ((one["parts"] > 0) & (other["parts"] > 0)).to_numpy()
        one, other = one[both], other[both]
        apart = np.hypot(*(other[f"centroid_{axis}_mm"] - one[f"centroid_{axis}_mm"] for axis in ("row", "col")))
        area = (other["area_mm2"] - one["area_mm2"]).abs()
        rows.append(
            {
                "class": name,
                "n": int(one.index.get_level_values("case").nunique()),
                "reference_area_mm2": float(one["area_mm2"].mean()),
                "area_error_mm2": float(area.mean()),
                "area_error_percent": float((area / one["area_mm2"] * 100).mean()),
                "centroid_distance_mm": float(np.mean(apart)) if len(apart) else float("nan"),
                "height_error_mm": float((other["height_mm"] - one["height_mm"]).abs().mean()),
                "width_error_mm": float((other["width_mm"] - one["width_mm"]).abs().mean()),
                "eccentricity": float(one["eccentricity"].mean()),
                "eccentricity_error": float((other["eccentricity"] - one["eccentricity"]).abs().mean()),
            }
        )
    return pd.DataFrame(rows)


def agreement(measurements: pd.DataFrame) -> pd.DataFrame:
    """Error in millimetres by quantity, route and stage, over cases whose reference is known.

    With several seeds n counts a case once and errors are averaged over a case's seeds first; bias and limits are
    those of single predictions, and `not_measured` and `flagged` count predictions.

    Args:
        measurements: the long table of 06_biometry, one row a case x seed x quantity x route x stage.

    Returns:
        One row a quantity x route x stage; a guess, which knows no stage and no seed, has one of post alone.
        `not_measured` have a reference but no prediction. The interval is of the mean absolute error (95 %,
        resampling subjects); the limits are those of agreement (95 % of predictions), which treat images of one
        subject as independent.
    """
    is_guess = measurements["route"].isin(GUESSES)
    repeated = is_guess & (
        (measurements["stage"] == "raw") | measurements.duplicated(["case", "quantity", "route", "stage"])
    )
    groups = dict(list(measurements[~repeated].groupby(["quantity", "route", "stage"], sort=False)))
    quantities = list(dict.fromkeys(quantity for quantity, _, _ in groups))
    ordered = sorted(groups, key=lambda key: quantities.index(key[0]))  # stable: routes, stages as they come
    rows = [dict(zip(("quantity", "route", "stage"), key)) | describe_agreement(groups[key]) for key in ordered]
    return pd.DataFrame(rows)


def describe_agreement(group: pd.DataFrame) -> dict[str, object]:
    """One row of `agreement`."""
    known = group[group["reference_mm"].notna()]
    measured = known[known["predicted_mm"].notna()]
    difference = measured["predicted_mm"] - measured["reference_mm"]
    errors = measured.assign(mm=difference.abs(), percent=difference.abs() / measured["reference_mm"] * 100)
    by_case = errors.groupby("case", sort=False).agg({"subject": "first", "mm": "mean", "percent": "mean"})
    error = statistics.bootstrap(by_case["mm"].to_numpy(float), by_case["subject"].to_numpy())
    enough = len(difference) >= 2
    limits = statistics.limits_of_agreement(difference.to_numpy(float)) if enough else (float("nan"),) * 3
    return {
        "n": len(by_case),
        "not_measured": len(known) - len(measured),
        "mae_mm": error.value,
        "mae_low": error.low,
        "mae_high": error.high,
        "mae_percent": float(by_case["percent"].mean()),
        "median_mm": float(by_case["mm"].median()),
        "bias_mm": limits[0],
        "lower_limit_mm": limits[1],
        "upper_limit_mm": limits[2],
        "flagged": int(group["flags"].fillna("").astype(str).ne("").sum()),
    }
