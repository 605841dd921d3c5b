"""Dice, IoU and pixel rates by class, from the long table of 05_evaluation: one row per case x class x stage."""

import pandas as pd

from lib.report.summaries.means import by_case, by_group, counts_all, mean_over, median_over, with_interval
from lib.statistics import PARTS

KEY = ["class", "stage"]
DETECTION = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp"), "precision": ("tp", "fp")}
EFFECT_COLUMNS = ("class", "n", "change", *(f"change_{part}" for part in PARTS), "better", "worse")
EFFECT_COLUMNS += ("missed_raw", "missed_post", "invented_raw", "invented_post")
NOT_OF_PART = ("dice_min", "iou", "pooled_dice")  # columns of a class that its parts do not have


def per_class(cases: pd.DataFrame) -> pd.DataFrame:
    """Dice and IoU by class and stage, with counts of the cases that the means exclude.

    Means are over the n cases whose reference contains the class, a miss counting as 0; seeds of a case are averaged
    first. Absent (in neither mask), missed (only in the reference) and invented (only predicted) count predictions.
    With several seeds, each has its own rows too. 95 % confidence intervals are by subject.
    """
    seeds = list(dict.fromkeys(cases["seed"]))
    if len(seeds) < 2:
        return by_group(cases, KEY, describe_class)
    rows = []
    for key, group in cases.groupby(KEY, sort=False):
        parts = {"all": group} | {str(seed): group[group["seed"] == seed] for seed in seeds}
        rows += [dict(zip(KEY, key)) | {"seeds": part} | describe_class(each) for part, each in parts.items()]
    return pd.DataFrame(rows)


def describe_class(group: pd.DataFrame) -> dict[str, object]:
    """One row of `per_class`."""
    of_cases = dice_by_case(group)
    dice, iou = (mean_over(of_cases, name) for name in ("dice", "iou"))
    tp, fp, fn = (int(group[name].sum()) for name in ("tp", "fp", "fn"))
    row = {"n": dice.count} | with_interval("dice", dice)
    row |= with_interval("dice_median", median_over(of_cases, "dice")) | {"dice_min": dice.least}
    row |= with_interval("iou", iou)
    row["pooled_dice"] = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else float("nan")
    return row | outcomes(group)


def outcomes(rows: pd.DataFrame) -> dict[str, int]:
    """Numbers of absent, missed, non-overlapping and invented predictions of a class."""
    positive, predicted = in_reference(rows), rows["tp"] + rows["fp"] > 0
    return {
        "absent": int((~positive & ~predicted).sum()),
        "missed": int((positive & ~predicted).sum()),
        "no_overlap": int((positive & (rows["tp"] == 0)).sum()),
        "invented": int((~positive & predicted).sum()),
    }


def in_reference(rows: pd.DataFrame) -> pd.Series:
    """Whether the reference of each row contains the class."""
    return rows["tp"] + rows["fn"] > 0


def dice_by_case(rows: pd.DataFrame) -> pd.DataFrame:
    """Subject, Dice and IoU (0 if missed) of each case whose reference contains the class, seeds averaged."""
    return by_case(rows[in_reference(rows)], ["dice", "iou"])


def holds_all_cases(table: pd.DataFrame, cases: pd.DataFrame) -> bool:
    """Whether n, absent and invented of `per_class` account for every row of the long table."""
    whole = table[table["seeds"] == "all"] if "seeds" in table else table
    return counts_all(whole, cases, KEY, in_reference(cases), ["absent", "invented"])


def detection(cases: pd.DataFrame) -> pd.DataFrame:
    """Sensitivity, specificity and precision of pixels by class and stage: mean with confidence interval, and pooled.

    A mean is over the n images in which the measure is defined (sensitivity if the reference contains the class,
    precision if the prediction does), seeds averaged first; pooled values are computed from summed counts.
    """
    rows = []
    for key, group in cases.groupby(KEY, sort=False):
        for measure, (hit, other) in DETECTION.items():
            whole = group[hit] + group[other]
            of_cases = by_case(group.assign(share=group[hit] / whole.where(whole > 0)), ["share"])
            mean = mean_over(of_cases, "share")
            row = dict(zip(KEY, key)) | {"measure": measure, "n": mean.count} | with_interval("mean", mean)
            rows.append(row | {"pooled": float(group[hit].sum() / whole.sum()) if whole.sum() else float("nan")})
    return pd.DataFrame(rows)


def by_part(cases: pd.DataFrame, part: str) -> pd.DataFrame:
    """Dice after post-processing by class and by the values of a column, `part` (a fold or group)."""

    def describe(group: pd.DataFrame) -> dict[str, object]:
        summary = describe_class(group)
        kept = {name: value for name, value in summary.items() if not name.startswith(NOT_OF_PART)}
        return {"cases": int(group["case"].nunique())} | kept

    post = cases[cases["stage"] == "post"]
    return by_group(post.sort_values(part, kind="stable"), [part, "class"], describe)


def effect(cases: pd.DataFrame) -> pd.DataFrame:
    """Effect of post-processing by class: paired change in Dice (post - raw) over n cases; counts of predictions.

    No rows without post-processing, of which the long table has no raw predictions.
    """
    return by_group(cases, ["class"], _effect) if "raw" in set(cases["stage"]) else pd.DataFrame(columns=EFFECT_COLUMNS)


def _effect(group: pd.DataFrame) -> dict[str, object]:
    raw, post = (group[group["stage"] == stage].set_index(["case", "seed"]) for stage in ("raw", "post"))
    post = post.loc[raw.index]
    change = (post["dice"] - raw["dice"]).where(in_reference(raw))
    mean = mean_over(by_case(raw.assign(change=change), ["change"]), "change")
    row = {"n": mean.count, **with_interval("change", mean)}
    row |= {"better": int((change > 0).sum()), "worse": int((change < 0).sum())}
    counts = {"raw": outcomes(raw), "post": outcomes(post)}
    return row | {f"{name}_{stage}": counts[stage][name] for name in ("missed", "invented") for stage in counts}


def confusion(long: pd.DataFrame, stage: str = "post") -> pd.DataFrame:
    """Confusion matrix summed over the runs of confusion.csv, in percent of the pixels of each reference class."""
    rows = long[long["stage"] == stage]
    counts = rows.pivot_table(index="reference", columns="predicted", values="pixels", aggfunc="sum", sort=False)
    total = counts.sum(axis=1)
    shares = counts.div(total.where(total > 0), axis=0) * 100
    shares.columns = [f"{name}_percent" for name in shares.columns]
    table = shares.reset_index()
    table.insert(1, "pixels", total.to_numpy())
    return table
