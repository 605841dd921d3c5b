"""08_prediction: a model on images of one's own in JupyterLab, answered by the code of the command `predict`."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import ipywidgets as widgets
import pandas as pd
from IPython.display import Image, display

from lib.datasets.phantoms import heads, write_images
from lib.prediction import command, ensemble, outputs, pixel_sizes
from lib.prediction.ensemble import Ensemble
from lib.prediction.inputs import Refusal, find
from lib.prediction.outputs import NOT_FOR_CLINICAL_USE, Written
from lib.prediction.pixel_sizes import PixelSizes
from lib.study import environment, files, param_faults, params, study_files

PHANTOMS, FIRST_HEAD = 3, 300_000  # heads that no phantom data set has, so that no model was trained on them
SIZES = "phantom_sizes.csv"  # in the layout of own data
MOST_SHOWN = 12  # pictures below a cell
DISPLAY_WIDTH = 640  # pixels on the screen


class PredictionParams(params.Params):
    """Keys of 08_prediction, which belongs to no study; paths are relative to the project."""

    model: params.Text = params.key("a study's name, a file of its 05_evaluation/models, or a folder of such files")
    images: params.Text = params.key('an image, DICOM or NIfTI file, or a folder of them; "" for phantom heads')
    pixel_size_mm: float | None = params.key("size of a pixel of the images in mm; null if their files say it")
    out: params.Text = params.key('folder of the answers, new or written by predict; "" to keep nothing')
    device: params.Text = params.key("auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:<index> or mps")


class Message(ValueError):
    """An error of which a notebook shows the sentence, without the traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython asks an exception for it
        return [str(self)]


@dataclass(frozen=True)
class Answers:
    """What was predicted and what was refused, complete or with the pictures of the first MOST_SHOWN cases."""

    inputs: list[str]  # names of the files that were given
    written: list[Written]
    refused: list[Refusal]
    pictures: list[bytes]  # JPEG
    truth: pd.DataFrame  # case, quantity, true_mm of phantoms; no rows for other images

    def table(self, name: str) -> pd.DataFrame:
        """A table of the folder of answers, such as "measurements.csv"."""
        return outputs.table(name, self.written, self.refused)

    @property
    def numbers(self) -> pd.DataFrame:
        """measurements.csv; of a model that measures no head volumes.csv or shapes.csv."""
        tables = [self.table(name) for name in ("measurements.csv", "volumes.csv", "shapes.csv")]
        return next((table for table in tables if len(table)), tables[0])

    @property
    def errors(self) -> pd.DataFrame:
        """Measurements of phantoms with their exact size: case, quantity, predicted_mm, true_mm, error_mm."""
        measured = self.table("measurements.csv")[["case", "quantity", "predicted_mm"]]
        both = measured.merge(self.truth, on=["case", "quantity"])
        return both.assign(error_mm=both["predicted_mm"] - both["true_mm"])

    def show(self) -> None:
        """Displays the pictures, and says how many more there are."""
        for picture in self.pictures:
            display(Image(data=picture, width=DISPLAY_WIDTH))
        if len(self.written) > len(self.pictures):
            print(more(self))


@dataclass
class Page:
    """The running notebook."""

    params: PredictionParams
    model: Ensemble
    checks: list[dict[str, Any]] = field(default_factory=list)  # claims, and whether they hold

    @property
    def about(self) -> pd.DataFrame:
        """What the model's files say: quantity, value."""
        about = self.model.about
        facts = {"study": about["study"], "files": ", ".join(self.model.names), "trained on": about["dataset"]}
        facts |= {"licence of these data": about["licence"], "network": about["model"]}
        facts |= {"classes": ", ".join(about["classes"]), "head": ", ".join(about["head_classes"]) or "not measured"}
        facts |= {"foreground from a probability of": self.model.threshold or "the most probable class"}
        return pd.DataFrame(facts.items(), columns=["quantity", "value"])

    def predict(self) -> Answers:
        """Answers for the images of the parameters cell, or for phantom heads; Message if there are none."""
        given, out, size = self.params.images, self.params.out, self.params.pixel_size_mm
        with TemporaryDirectory() as temporary:
            folder = located(out) if out else Path(temporary) / "answers"
            try:
                if given:
                    return answer(self.model, [located(given)], folder, "" if size is None else repr(size), print)
                return answer_phantoms(self.model, Path(temporary) / "phantoms", folder, print)
            except ValueError as error:
                raise Message(str(error)) from None

    def upload(self) -> widgets.VBox:
        """A button that takes images from the user's computer, a field for their pixel size, and the answers."""
        return uploader(lambda chosen, size: answer_uploaded(self.model, chosen, size))

    def check(self, claim: str, holds: bool) -> None:
        """Records whether a claim holds and prints it; `finish` stops at those that do not."""
        self.checks.append({"claim": claim, "holds": bool(holds)})
        print(f"{'holds' if holds else 'FAILS'}   {claim}")

    def finish(self) -> None:
        """ValueError if a check failed."""
        failed = [check["claim"] for check in self.checks if not check["holds"]]
        if failed:
            raise ValueError(f"{len(failed)} of {len(self.checks)} checks failed: {'; '.join(failed)}")
        print(f"08_prediction is done; {NOT_FOR_CLINICAL_USE}")


def start(name: str, given: dict[str, Any]) -> Page:
    """Checks the values of the parameters cell and loads the model; Message with all faults, or why there is none."""
    environment.confirm_start()
    environment.use_threads()
    try:
        param_faults.refuse(f"parameters of {name}", faults(given))
        typed = PredictionParams.model_validate(given)
        named = study_files.NAME.fullmatch(typed.model)
        model = ensemble.load(typed.model if named else located(typed.model), typed.device)
    except ValueError as error:
        raise Message(str(error)) from None
    print(f"model {model.describe()} on {model.members[0].device}; {NOT_FOR_CLINICAL_USE}")
    return Page(typed, model)


def faults(given: dict[str, Any]) -> list[str]:
    """All errors in the values of the parameters cell, one line each."""
    wrong = param_faults.find_faults(given, PredictionParams)
    if given.get("images") == "" and given.get("pixel_size_mm") is not None:
        wrong.append(
            f"pixel_size_mm = {given['pixel_size_mm']!r}   not used; requires images (phantoms have their own)"
        )
    return wrong


def located(path: str) -> Path:
    """A path that is relative to the project, whatever the working directory."""
    return files.ROOT / Path(path).expanduser()


def answer(
    model: Ensemble, given: Sequence[Path], out: Path, size: str, say: Callable[[str], None], table: Path | None = None
) -> Answers:
    """Answers for files and folders, written to `out`; ValueError as the command `predict`.

    The pixel size is one in mm as text, "" if the files say it, or that of a table of sizes.
    """
    limits = command.limits_mm(model)
    sizes = pixel_sizes.parse(size, limits) if size else PixelSizes()
    sizes = pixel_sizes.read_table(table, limits) if table else sizes
    listing = find(given, model.is_volume, out)
    written, refused = command.answer(model, given, out, sizes, False, say)
    shown = [files.read_bytes(out / "overlays" / f"{each.case}.jpg") for each in written[:MOST_SHOWN]]
    names = [each.file for each in (*listing.sources, *listing.refused)]
    return Answers(names, written, refused, shown, pd.DataFrame(columns=["case", "quantity", "true_mm"]))


def answer_phantoms(model: Ensemble, folder: Path, out: Path, say: Callable[[str], None]) -> Answers:
    """Answers for phantom heads that are written to a folder; ValueError if the model measures no heads."""
    if model.is_volume or not model.head:
        raise ValueError(
            f"model {model.describe()} measures no heads, and the phantoms of this page are heads; set images to a "
            "file or folder"
        )
    truth = write_phantoms(folder)
    answers = answer(model, [folder / "images"], out, "", say, folder / SIZES)
    return replace(answers, truth=truth)


def write_phantoms(folder: Path) -> pd.DataFrame:
    """Writes images/ of heads of known size and a table of pixel sizes; returns case, quantity, true_mm.

    The last head has no pixel size, and a further file is cut off, so that a flag and a refusal can be seen.
    """
    (folder / "images").mkdir(parents=True)
    sizes, truth = [], []
    for number in range(1, PHANTOMS + 1):
        drawn = heads.draw_frame(write_images.SEED, FIRST_HEAD + number, 1, write_images.DRAWN)
        name = f"head_{number}" if number < PHANTOMS else f"head_{number}_without_pixel_size"
        content = cv2.imencode(".png", drawn.image)[1].tobytes()
        files.write_bytes(folder / "images" / f"{name}.png", content)
        sizes.append((name, drawn.spacing_mm[0] if number < PHANTOMS else None))
        truth += [(name, quantity, drawn.truth[f"{quantity}_mm"]) for quantity in ("bpd", "ofd", "hc")]
    files.write_bytes(folder / "images" / "cut_off.png", content[: len(content) // 2])
    files.write_csv(folder / SIZES, pd.DataFrame(sizes, columns=["name", "spacing_mm"]))
    return pd.DataFrame(truth, columns=["case", "quantity", "true_mm"])


def answer_uploaded(model: Ensemble, chosen: Sequence[dict[str, Any]], size: str) -> tuple[Answers | None, list[str]]:
    """Answers for files of FileUpload, None if there are none, with the lines of the command; nothing is kept.

    The files are written to a temporary folder, so that they are read and checked like all others.
    """
    said: list[str] = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "uploaded"
        folder.mkdir()
        try:
            paths = [folder / name for name in own_names([each["name"] for each in chosen])]
            for path, each in zip(paths, chosen):
                path.write_bytes(each["content"])
            given = [folder] if model.is_volume else paths  # the slices of a volume are one case
            return answer(model, given, Path(temporary) / "answers", size.strip(), said.append), said
        except ValueError as error:
            return None, [*said, str(error)]


def own_names(names: Sequence[str]) -> list[str]:
    """Names of uploaded files without any folder; ValueError if two are equal."""
    own = [PurePosixPath(name.replace("\\", "/")).name for name in names]
    twice = [name for name in own if own.count(name) > 1]
    if twice:
        raise ValueError(f"two of the files are called {twice[0]}; choose them one after the other")
    return own


Answering = Callable[[Sequence[dict[str, Any]], str], tuple[Answers | None, list[str]]]


def uploader(answering: Answering) -> widgets.VBox:
    """The button, the field and a box, whose content is replaced when files are chosen or their pixel size changes."""
    chosen = widgets.FileUpload(multiple=True, description="Choose images", layout={"width": "16em"})
    size = widgets.Text(description="Pixel size (mm)", placeholder="as the files say", continuous_update=False)
    size.style.description_width = "initial"
    shown = widgets.VBox()

    def respond(_: object) -> None:
        if chosen.value:
            shown.children = [widgets.HTML("predicting …")]
            new: list[widgets.Widget] = []
            try:
                new = contents(*answering(chosen.value, size.value))
            finally:  # an error of which a user is not told would look like a long computation
                shown.children = new or [widgets.HTML("failed; JupyterLab's log has the error")]

    chosen.observe(respond, "value")
    size.observe(respond, "value")
    return widgets.VBox([widgets.HBox([chosen, size]), shown])


def contents(answers: Answers | None, lines: Sequence[str]) -> list[widgets.Widget]:
    """Lines of the command, then pictures and numbers, as widgets."""
    text = "<br>".join(html.escape(line) for line in lines)
    shown: list[widgets.Widget] = [widgets.HTML(text)]
    if answers is None:
        return shown
    narrow = {"max_width": f"{DISPLAY_WIDTH}px"}
    shown += [widgets.Image(value=picture, format="jpeg", layout=narrow) for picture in answers.pictures]
    shown += [widgets.HTML(more(answers))] if len(answers.written) > len(answers.pictures) else []
    tables = [answers.numbers, answers.table("cases.csv")]
    return [*shown, *(widgets.HTML(whole_html(table)) for table in tables)]


def more(answers: Answers) -> str:
    """How many cases are not shown."""
    return f"the first {len(answers.pictures)} of {len(answers.written)} cases are shown"


def whole_html(table: pd.DataFrame) -> str:
    """A table in HTML with the whole text of its cells, which pandas cuts by default."""
    with pd.option_context("display.max_colwidth", None):
        return table.to_html(index=False, na_rep="")


def show_table(table: pd.DataFrame) -> None:
    """Displays a table with the whole text of its cells; "No rows." if it is empty."""
    if not len(table):
        print("No rows.")
        return
    display({"text/html": whole_html(table), "text/plain": table.to_string(index=False, na_rep="")}, raw=True)
