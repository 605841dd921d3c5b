"""Published results beside which the report prints its own, from reports/template/published-results.yaml."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from lib.study import files, param_faults, params, plain_yaml

RESULTS = files.ROOT / "reports" / "template" / "published-results.yaml"
MEASURES = ("dice", "hc_error_mm", "age_error_days")
NUMBER = r"−?\d+(\.\d+)?"
# A number, with a standard deviation or a median in parentheses; one for each trimester.
Value = Annotated[str, Field(pattern=rf"^{NUMBER}( ± {NUMBER}| \({NUMBER}\))?(, {NUMBER} ± {NUMBER}){{0,2}}$")]
Words = Annotated[str, Field(min_length=1, max_length=120)]


class PublishedResult(params.Params):
    """One row of the table; the keys are explained in the file."""

    method: Words
    citation: params.Name
    data: Words
    n: Words
    protocol: Words
    dice: Value | None
    hc_error_mm: Value | None
    age_error_days: Value | None
    seen: Words


def read_results(path: Path = RESULTS) -> dict[str, list[PublishedResult]]:
    """Published results by data set; ValueError, listing all faults, for a missing or invalid file."""
    if not path.is_file():
        raise ValueError(f"{path}: missing; this file lists published results by data set")
    results: dict[str, list[PublishedResult]] = {}
    faults = []
    for name, rows in plain_yaml.read(path).items():
        results[name] = []
        for place, values in enumerate(rows if isinstance(rows, list) else [rows]):
            try:
                results[name].append(PublishedResult.model_validate(values))
            except ValidationError as error:
                for fault in error.errors():
                    value = "" if fault["type"] == "missing" else f" = {param_faults.shown(fault['input'])}"
                    key = ".".join(map(str, (name, place, *fault["loc"])))
                    faults.append(f"{key}{value}   {fault['msg']}")
            else:
                if not any(getattr(results[name][-1], measure) for measure in MEASURES):
                    faults.append(f"{name}.{place}   no value; expected one of {', '.join(MEASURES)}")
    param_faults.refuse(str(path), faults)
    return results


def beside(name: str, landmarks: bool) -> list[dict[str, Any]]:
    """Rows for a data set, with the printed keys; of landmark studies without those that give nothing but a Dice."""
    measures = MEASURES[1:] if landmarks else MEASURES
    rows = [row.model_dump() for row in read_results().get(name, [])]
    return [row for row in rows if any(row[measure] for measure in measures)]
