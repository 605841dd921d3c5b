"""Dice, IoU and pixel rates by class, from the long table of 05_evaluation."""

import pandas as pd

from lib.report.summaries import means

DETECTION = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp"), "precision": ("tp", "fp")}


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
    return means.counts_all(whole, cases, ["class", "stage"], is_shown(cases), ["absent", "invented"])


def is_shown(rows: pd.DataFrame) -> pd.Series:
    """Whether the reference of each row of the long table shows the class."""
    return rows["tp"] + rows["fn"] > 0


def dice_by_case(rows: pd.DataFrame) -> pd.DataFrame:
    """Subject, Dice and IoU of each case whose reference shows the class, a miss counting 0: what "Dice" is a mean of.

    Args:
        rows: of the long table of 05_evaluation, of one class and stage; seeds are averaged.
    """
    return means.by_case(rows[is_shown(rows)], ["dice", "iou"])


def describe_class(group: pd.DataFrame) -> dict[str, object]:
    """One row of `per_class`."""
    shown, in_prediction = is_shown(group), group["tp"] + group["fp"] > 0
    of_cases = dice_by_case(group)
    dice, iou = (means.mean_over_cases(group[shown], name) for name in ("dice", "iou"))
    tp, fp, fn = (int(group[name].sum()) for name in ("tp", "fp", "fn"))
    return {
        "n": dice.count,
        **means.estimated("dice", dice),
        "dice_median": float(of_cases["dice"].median()),
        "dice_min": float(of_cases["dice"].min()),
        **means.estimated("iou", iou),
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
            found = means.mean_over_cases(group.assign(share=group[hit] / whole.where(whole > 0)), "share")
            row = {"class": name, "stage": stage, "measure": measure, "n": found.count} | means.estimated("mean", found)
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
        found = means.mean_over_cases(raw.assign(change=change), "change")
        rows.append(
            {
                "class": name,
                "n": found.count,
                **means.estimated("change", found),
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
