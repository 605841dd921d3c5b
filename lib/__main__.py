"""Command line: python -m lib study|why|report|watch|check-report|bundle|card|ship|predict|verify|download|new|..."""

import argparse
import logging
import os
import shlex
import sys
from pathlib import Path

from lib.study import environment, files, params, printable, study_files

STOPPED = "stopped; finished steps and the state of a training are kept; run the same command again to resume"

REPORTS = {
    "report": "typeset the report of a finished study from its result files and texts",
    "watch": "typeset it again on each save of a text in texts/<study>, until Ctrl-C",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status: 2 for an error of the user or the machine, 130 for an interrupt."""
    parser = argparse.ArgumentParser(prog="python -m lib", description="Studies of fetal ultrasound and brain MRI.")
    commands = parser.add_subparsers(dest="command", required=True)
    study = commands.add_parser("study", help="run every stale step of a study, from raw data to its PDF")
    study.add_argument("name", help="name of a study, such as demo or params/demo.yaml")
    study.add_argument("--cores", type=int, default=2, help="of this machine, shared by trainings side by side")
    study.add_argument("--gpus", help="number of NVIDIA GPUs, one for each training; default: all that are visible")
    study.add_argument("--data", help="raw data folder; linked once as data/raw/<dataset>")
    study.add_argument("--landmarks", help="landmark folder; linked once as data/raw/landmarks")
    study.add_argument("--profile", help="run the steps as jobs of a cluster: folder such as profiles/slurm")
    commands.add_parser("why", help="list the steps that would run, with reasons").add_argument("name")
    commands.add_parser("bundle", help="pack a finished study into one zip file").add_argument("name")
    commands.add_parser("card", help="write the model card of a finished study").add_argument("name")
    ship = commands.add_parser("ship", help="write the models of a finished study to a folder to be passed on")
    ship.add_argument("name")
    ship.add_argument("folder", help="such as weights/hc18; replaced if ship wrote it")
    new = commands.add_parser("new", help="copy a study file under a new name, or write one for a folder of own data")
    new.add_argument("name")
    new.add_argument("--data", help="folder of own data (images/, masks/) from which the study file is proposed")
    new.add_argument("--like", help="study to copy; with --data that of network and training, by default hc18_quick")
    diff = commands.add_parser("diff", help="compare two study files key by key")
    diff.add_argument("name")
    diff.add_argument("other")
    step = commands.add_parser("step", help="run one notebook (called by Snakemake for each step)")
    step.add_argument("name")
    step.add_argument("step", help="step folder in reports/<study>: 05_evaluation, 04_training/fold0-seed0, ...")
    step.add_argument("--cores", type=int, required=True, help="number of threads")
    step.add_argument("--gpus", type=int, required=True, help="number of GPUs that it waits for and uses alone")
    for command, text in REPORTS.items():
        report = commands.add_parser(command, help=text)
        report.add_argument("name")
        report.add_argument("--draft", action="store_true", help="print a reminder for each text not written yet")
    check = commands.add_parser("check-report", help="recompute every printed number and name what differs")
    check.add_argument("name")
    verify = commands.add_parser("verify", help="identify the data set in a folder and check every file")
    verify.add_argument("folder")
    download = commands.add_parser("download", help="download, verify and unpack a published data set")
    download.add_argument("name", help="name of a data set in data/sources.yaml")
    download.add_argument("--to", type=Path, default=files.ROOT / "data" / "raw", help="default: data/raw")
    download.add_argument("--url", nargs="+", default=[], help="URLs to use instead of those in data/sources.yaml")
    predict = commands.add_parser("predict", help="predict and measure images that have no reference")
    predict.add_argument(
        "model", help="a study's name, a file of its 05_evaluation/models, or a folder such as weights/hc18"
    )
    predict.add_argument("inputs", nargs="+", type=Path, metavar="input", help="images, DICOM or NIfTI files, folders")
    predict.add_argument("--out", required=True, help="folder of the answers; replaced if predict wrote it")
    predict.add_argument("--pixel-size", metavar="MM", help="size of the pixels of all images in mm")
    predict.add_argument(
        "--pixel-sizes", type=Path, metavar="CSV", help="table of pixel sizes by name (HC18, cases.csv)"
    )
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<index> or mps; default: auto")
    predict.add_argument(
        "--tta",
        choices=("model", "on", "off"),
        default="model",
        help="average with the mirrored image; default: as evaluated",
    )
    predict.add_argument("--probabilities", action="store_true", help="also write probability maps, 16-bit PNG")
    options = parser.parse_args(arguments)
    try:
        sys.stdout.reconfigure(errors="backslashreplace")  # for terminals without UTF-8
        status = run(options)
        sys.stdout.flush()
        return status
    except ValueError as error:
        return fail(str(error), 2)
    except BrokenPipeError:  # the reader has exited (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discards buffered output
        return 0
    except OSError as error:
        return fail(": ".join(str(part) for part in (error.filename, files.reason(error)) if part), 2)
    except KeyboardInterrupt:
        return fail(STOPPED, 130)


def fail(text: str, status: int) -> int:
    """Prints an error and returns the status; inside the pipeline, between delimiters."""
    mark, text = environment.MESSAGE_MARK, printable.printable(text, printable.LINE_BREAKS)
    print(f"{mark}{text}\n{mark}" if environment.in_workflow() else text, file=sys.stderr)
    return status


def say(text: object) -> None:
    """Prints a line of a command's output at once, without control characters."""
    print(printable.printable(str(text), printable.LINE_BREAKS), flush=True)


def given_folder(text: str, command: str) -> Path:
    """A folder from the command line; ValueError for an empty text, which would mean the present folder."""
    if not text.strip():
        raise ValueError(f"no folder is given; expected {command}")
    return Path(text)


def new_study(name: str, data: str | None, like: str | None) -> str:
    """Writes a study file; returns what was written, one line per key to review, and the next command."""
    if data is None:
        if like is None:
            raise ValueError(f"new {name}: expected --data <folder of own data>, or --like <study to copy>")
        like = study_files.study_name(like)
        path, keys = study_files.new(name, like)
        lines = "\n    ".join([f"Wrote params/{path.name}, a copy of {like}.yaml; review these keys:", *keys])
        return "\n".join([lines, *time_needed(name, like)])
    folder = given_folder(data, f"new {name} --data <folder of own data>")
    from lib.datasets import proposal

    like = study_files.study_name(like or proposal.PROTOCOL)
    protocol = params.values_of(params.read_study(files.study_file(like)))
    values, reasons = proposal.propose(name, folder, protocol, like)
    path = study_files.write(values, reasons, proposal.FIRST_LINE)
    lines = [f"{key}: {values[key]}   # {reasons[key]}" for key in proposal.TO_REVIEW]
    head = (
        f"Wrote params/{path.name}; network and training are those of {like}. Review these keys, and name the classes:"
    )
    then = f"Then: make study STUDY={name} DATA={shlex.quote(str(folder))}"
    return "\n".join(["\n    ".join([head, *lines]), *time_needed(name, like), then])


def time_needed(name: str, like: str) -> list[str]:
    """What is known of the time that a new study takes: that of the copied one, and the command that estimates it."""
    from lib.data import duration

    study, copied = (params.read_study(files.study_file(each)) for each in (name, like))
    taken = duration.of_study(copied)
    known = [f"{like} took {taken}; {name} has {duration.amount(study)}"] if taken else []
    return [*known, f"Time of a training: once 03_model has run, 'make why STUDY={name}' estimates it from its speed"]


def predict(options: argparse.Namespace) -> int:
    """Runs `predict`; its exit status is 1 if some of the inputs were refused."""
    out = given_folder(options.out, "make predict MODEL=<model> IN=<files> OUT=<folder>")
    from lib.prediction import command

    how = (options.pixel_size, options.pixel_sizes, options.device, options.tta, options.probabilities)
    return command.run(options.model, options.inputs, out, *how, say)


def run(options: argparse.Namespace) -> int:
    """Runs one parsed command; imports are local so that short commands start quickly."""
    environment.check_project()
    if options.command == "verify":
        folder = given_folder(options.folder, "make verify DATA=<folder>")
        from lib.report import folder_check

        text, sound = folder_check.report_on(folder)
        say(text)
        return int(not sound)
    if options.command == "download":
        from lib.download import download

        return int(not download.download(options.name, options.to, options.url, say))
    if options.command == "predict":
        return predict(options)
    options.name = study_files.study_name(options.name)
    if options.command == "new":
        say(new_study(options.name, options.data, options.like))
        return 0
    if options.command == "diff":
        say("\n".join(study_files.diff(options.name, study_files.study_name(options.other))))
        return 0
    if options.command in REPORTS:
        from lib.report import command

        run_command = command.watch if options.command == "watch" else command.typeset
        return run_command(options.name, options.draft, say, fail)
    study = params.read_study(files.study_file(options.name))
    if options.command == "check-report":
        from lib.report import recompute

        checked = recompute.check(study)
        say("\n".join(checked.lines()))
        return int(bool(checked.differences))
    if options.command == "bundle":
        from lib.report import bundle

        path = bundle.write(study)
        say(f"{path} ({path.stat().st_size / 2**20:.1f} MB)")
        return 0
    if options.command == "card":
        from lib.report import model_card

        say(model_card.write(study))
        return 0
    if options.command == "ship":
        folder = given_folder(options.folder, "make ship STUDY=<name> OUT=<folder>")
        from lib.prediction import shipping

        shipping.ship(study, folder, say)
        return 0
    if options.command == "step":
        from lib.study import execution

        logging.basicConfig(level=logging.ERROR)  # papermill warns of every key that the notebook does not use
        execution.execute(study, options.step, options.cores, options.gpus)
        return 0
    from lib import pipeline

    if options.command == "why":
        say(pipeline.explain(study))
        return 0
    data, landmarks = (
        None if text is None else given_folder(text, f"make study STUDY={study.study} {option}=<folder>")
        for option, text in (("DATA", options.data), ("LANDMARKS", options.landmarks))
    )
    profile = None if options.profile is None else given_folder(options.profile, "PROFILE=profiles/slurm").absolute()
    status = pipeline.run(study, options.cores, data, landmarks, options.gpus, profile)
    if status == 0:
        say(files.study_folder(study.study) / "report.pdf")
    return status


if __name__ == "__main__":
    sys.exit(main())
