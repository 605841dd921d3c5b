"""A table to CSV and Typst, and the views of the long tables that a report prints."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from lib import files, statistics
from lib.statistics import Estimate

DIGITS = {"mm": 2, "mm2": 1, "px": 2, "ml": 2, "voxels": 0, "percent": 1, "deg": 1, "seconds": 1}  # by the last word
UNITS = {"mm": "mm", "mm2": "mm²", "px": "pixels", "ml": "ml", "percent": "%", "deg": "°", "seconds": "s"}
ABBREVIATIONS = ("hc", "bpd", "ofd", "csp", "lv", "a", "b", "tp", "fp", "fn", "tn")
WORDS = {"dice": "Dice", "iou": "IoU", "mae": "Mean abs. error", "n": "n", "sha256": "SHA-256"}
WORDS |= {word: word.upper() for word in ABBREVIATIONS}
TITLES = {"dice_per_patient": "Dice per patient, absent = 1"}
NAMED = ("class", "quantity", "line", "reference")  # columns whose values are names in WORDS
DETECTION = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp"), "precision": ("tp", "fp")}
AGREEMENT_KEY = ["quantity", "route", "stage"]
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
    if name in TITLES:
        return TITLES[name]
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


def estimated(name: str, found: Estimate) -> dict[str, float]:
    """A mean with the ends of its interval beside it: <name>, <name>_low, <name>_high."""
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def by_case(rows: pd.DataFrame, values: list[str]) -> pd.DataFrame:
    """The subject of each case, and the means of some columns over its seeds, what is missing left out."""
    return rows.groupby("case", sort=False).agg({"subject": "first"} | dict.fromkeys(values, "mean"))


def mean_over_cases(rows: pd.DataFrame, value: str) -> Estimate:
    """The mean of a column over cases whose seeds are averaged first, and in how many cases it is not missing."""
    found = by_case(rows, [value])
    return statistics.bootstrap(found[value].to_numpy(float), found["subject"].to_numpy())


def counts_all(table: pd.DataFrame, long: pd.DataFrame, key: list[str], in_mean: pd.Series, others: list[str]) -> bool:
    """Whether no row is lost between a long table and its view.

    Args:
        table: the view, in which n counts cases.
        long: the long table.
        key: columns that tell the view's rows apart.
        in_mean: of each row of the long table, whether the mean should hold it.
        others: columns of the view that count all other rows.
    """
    cases = long[in_mean].drop_duplicates(["case", *key])
    counted = table.reindex(columns=["n", *others]).sum()
    return [counted["n"], counted[others].sum()] == [len(cases), int((~in_mean).sum())]


def per_class(cases: pd.DataFrame) -> pd.DataFrame:
    """Dice and IoU by class and stage, with what the mean leaves out beside it.

    A mean is over the n cases whose reference shows the class, a miss counting 0; seeds of a case are averaged first.
    Absent (in neither mask), missed (shown, nothing predicted) and invented (predicted, not shown) are counted, one a
    prediction. With several seeds, each has its rows too.

    Args:
        cases: the long table of 05_evaluation, one row a case x class x stage.

    Returns:
        One row a class x stage (x seed); intervals are 95 % from resampling subjects.
    """
    seeds = list(dict.fromkeys(cases["seed"]))
    rows = []
    for (name, stage), group in cases.groupby(["class", "stage"], sort=False):
        of_seeds = {str(seed): group[group["seed"] == seed] for seed in seeds if len(seeds) > 1}
        for of, own in ({"all": group} | of_seeds).items():
            rows.append({"class": name, "stage": stage, "seeds": of} | describe_class(own))
    table = pd.DataFrame(rows)
    return table if len(seeds) > 1 else table.drop(columns="seeds", errors="ignore")


def holds_all_cases(table: pd.DataFrame, cases: pd.DataFrame) -> bool:
    """Whether n, absent and invented of `per_class` count every row of the long table."""
    whole = table[table["seeds"] == "all"] if "seeds" in table else table
    return counts_all(whole, cases, ["class", "stage"], is_shown(cases), ["absent", "invented"])


def is_shown(rows: pd.DataFrame) -> pd.Series:
    """Whether the reference of each row of the long table shows the class."""
    return rows["tp"] + rows["fn"] > 0


def dice_by_case(rows: pd.DataFrame) -> pd.DataFrame:
    """Subject, Dice and IoU of each case whose reference shows the class, a miss counting 0: what "Dice" is a mean of.

    Args:
        rows: of the long table of 05_evaluation, of one class and stage; seeds are averaged.
    """
    return by_case(rows[is_shown(rows)], ["dice", "iou"])


def describe_class(group: pd.DataFrame) -> dict[str, object]:
    """One row of `per_class`."""
    shown, in_prediction = is_shown(group), group["tp"] + group["fp"] > 0
    of_cases = dice_by_case(group)
    dice, iou = (mean_over_cases(group[shown], name) for name in ("dice", "iou"))
    tp, fp, fn = (int(group[name].sum()) for name in ("tp", "fp", "fn"))
    return {
        "n": dice.count,
        **estimated("dice", dice),
        "dice_median": float(of_cases["dice"].median()),
        "dice_min": float(of_cases["dice"].min()),
        **estimated("iou", iou),
        "pooled_dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else float("nan"),
        "absent": int((~shown & ~in_prediction).sum()),
        "missed": count_missed(group),
        "no_overlap": int((shown & (group["tp"] == 0)).sum()),
        "invented": count_invented(group),
    }


def detection(cases: pd.DataFrame) -> pd.DataFrame:
    """Sensitivity, specificity and precision of pixels, a row a class x stage x measure: n, mean with interval, pooled.

    A mean is over the n images in which it is defined (sensitivity where the reference shows the class, precision
    where the prediction does), seeds averaged first; a pooled one is of summed counts.
    """
    rows = []
    for (name, stage), group in cases.groupby(["class", "stage"], sort=False):
        for measure, (hit, other) in DETECTION.items():
            whole = group[hit] + group[other]
            found = mean_over_cases(group.assign(share=group[hit] / whole.where(whole > 0)), "share")
            row = {"class": name, "stage": stage, "measure": measure, "n": found.count} | estimated("mean", found)
            rows.append(row | {"pooled": float(group[hit].sum() / whole.sum()) if whole.sum() else float("nan")})
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
        for value, of_part in post.groupby(part, sort=True, dropna=False)
        for name, group in of_part.groupby("class", sort=False)
    ]
    return pd.DataFrame(rows)


def effect(cases: pd.DataFrame) -> pd.DataFrame:
    """What post-processing changes, paired by case: post minus raw, a row a class.

    Dice is compared in the n cases whose reference shows the class, seeds averaged first. All else counts
    predictions, misses and inventions in both stages.
    """
    rows = []
    for name, group in cases.groupby("class", sort=False):
        raw, post = (group[group["stage"] == stage].set_index(["case", "seed"]) for stage in ("raw", "post"))
        post = post.loc[raw.index]
        change = (post["dice"] - raw["dice"]).where(is_shown(raw))
        found = mean_over_cases(raw.assign(change=change), "change")
        rows.append(
            {
                "class": name,
                "n": found.count,
                **estimated("change", found),
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
    return int((is_shown(rows) & (rows["tp"] + rows["fp"] == 0)).sum())


def count_invented(rows: pd.DataFrame) -> int:
    """Rows whose prediction shows the class and whose reference does not."""
    return int((~is_shown(rows) & (rows["tp"] + rows["fp"] > 0)).sum())


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
    groups = dict(list(with_guesses_once(measurements).groupby(AGREEMENT_KEY, sort=False)))
    quantities = list(dict.fromkeys(quantity for quantity, _, _ in groups))
    ordered = sorted(groups, key=lambda key: quantities.index(key[0]))  # stable: routes, stages as they come
    return pd.DataFrame([dict(zip(AGREEMENT_KEY, key)) | describe_agreement(groups[key]) for key in ordered])


def with_guesses_once(measurements: pd.DataFrame) -> pd.DataFrame:
    """Rows of measurements.csv; of a guess, which knows no stage and no seed, one a case and quantity."""
    again = measurements.duplicated(["case", *AGREEMENT_KEY]) | (measurements["stage"] == "raw")
    return measurements[~(again & measurements["route"].isin(GUESSES))]


def holds_all_measurements(table: pd.DataFrame, measurements: pd.DataFrame) -> bool:
    """Whether n and not_measured of `agreement` count every row of measurements.csv that has a reference."""
    known = with_guesses_once(measurements[measurements["reference_mm"].notna()])
    return counts_all(table, known, AGREEMENT_KEY, known["predicted_mm"].notna(), ["not_measured"])


def describe_agreement(group: pd.DataFrame) -> dict[str, object]:
    """One row of `agreement`."""
    known = group[group["reference_mm"].notna()]
    measured = known[known["predicted_mm"].notna()]
    difference = measured["predicted_mm"] - measured["reference_mm"]
    errors = measured.assign(mm=difference.abs(), percent=difference.abs() / measured["reference_mm"] * 100)
    of_cases = by_case(errors, ["mm", "percent"])
    error = statistics.bootstrap(of_cases["mm"].to_numpy(float), of_cases["subject"].to_numpy())
    enough = len(difference) >= 2
    limits = statistics.limits_of_agreement(difference.to_numpy(float)) if enough else (float("nan"),) * 3
    return {
        "n": error.count,
        "not_measured": len(known) - len(measured),
        "mae_mm": error.value,
        "mae_low": error.low,
        "mae_high": error.high,
        "mae_percent": float(of_cases["percent"].mean()),
        "median_mm": float(of_cases["mm"].median()),
        "bias_mm": limits[0],
        "lower_limit_mm": limits[1],
        "upper_limit_mm": limits[2],
        "flagged": int(group["flags"].ne("").sum()),
    }
