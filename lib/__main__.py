"""Command line: python -m lib study|why|new|diff|step|download|verify|report|check-report."""

import argparse
import logging
import os
import sys
from functools import partial
from pathlib import Path

from lib.study import environment, files, params, study_files

STOPPED = "stopped; what had ended is kept, and the same command goes on from there"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its status.

    2 where the user or the machine is at fault, 130 where the user stopped it, each with a line and no traceback.
    """
    parser = argparse.ArgumentParser(prog="python -m lib", description="Studies of fetal ultrasound and brain MRI.")
    commands = parser.add_subparsers(dest="command", required=True)
    study = commands.add_parser("study", help="run what a study needs, from raw data to its PDF")
    study.add_argument("name", help="of a file in params/, without .yaml")
    study.add_argument("--cores", type=int, default=2)
    study.add_argument("--data", type=Path, help="raw folder, linked once as data/raw/<dataset>")
    study.add_argument("--landmarks", type=Path, help="folder of landmarks, linked once as data/raw/landmarks")
    commands.add_parser("why", help="what would run, and why").add_argument("name")
    new = commands.add_parser("new", help="copy a study file under a new name")
    new.add_argument("name")
    new.add_argument("--like", required=True, help="the other study")
    diff = commands.add_parser("diff", help="what two study files do differently")
    diff.add_argument("name")
    diff.add_argument("other")
    step = commands.add_parser("step", help="run one notebook; what the graph calls for each")
    step.add_argument("name")
    step.add_argument("step", help="its folder below reports/<study>: 05_evaluation, 04_training/fold0-seed0, ...")
    commands.add_parser("report", help="build a study's PDF from its files").add_argument("name")
    check = commands.add_parser("check-report", help="recompute the printed tables from the long ones, and compare")
    check.add_argument("name")
    verify = commands.add_parser("verify", help="recognise the data set in a folder, open every file, say what to do")
    verify.add_argument("folder", type=Path)
    fetched = commands.add_parser("download", help="fetch, check and unpack a published data set, or verify it")
    fetched.add_argument("name", help="of a data set in data/sources.yaml")
    fetched.add_argument("--to", type=Path, default=files.ROOT / "data" / "raw", help="folder of raw data (data/raw)")
    fetched.add_argument("--url", nargs="+", default=[], help="addresses instead of those in data/sources.yaml")
    given = parser.parse_args(arguments)
    try:
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 shows the rest
        status = run(given)
        sys.stdout.flush()
        return status
    except ValueError as error:
        return fail(str(error), 2)
    except BrokenPipeError:  # the reader has ended (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python still holds goes there
        return 0
    except OSError as error:
        return fail(": ".join(str(part) for part in (error.filename, error.strerror) if part) or str(error), 2)
    except KeyboardInterrupt:
        return fail(STOPPED, 130)


def fail(text: str, status: int) -> int:
    """Says why a command ends, and gives back its status; marked where the graph listens."""
    print(f"{environment.MARK}{text}\n{environment.MARK}" if environment.by_graph() else text, file=sys.stderr)
    return status


def run(given: argparse.Namespace) -> int:
    """Runs one parsed command; imports only what it needs, so that the short ones are short."""
    environment.check()
    if given.command == "verify":
        from lib.report import folder_check

        text, sound = folder_check.report_on(given.folder)
        print(text)
        return int(not sound)
    if given.command == "download":
        from lib.download import download

        return int(not download.download(given.name, given.to, given.url, partial(print, flush=True)))
    if given.command == "new":
        path, keys = study_files.new(given.name, given.like)
        print(f"Wrote params/{path.name}, a copy of {given.like}.yaml; review these keys:", *keys, sep="\n    ")
        return 0
    if given.command == "diff":
        print("\n".join(study_files.diff(given.name, given.other)))
        return 0
    study = params.read_study(files.study_file(given.name))
    if given.command in ("report", "check-report"):
        from lib.report import build

        if given.command == "check-report":
            differences = build.check(study)
            print("\n".join(differences) or "the printed tables that can be made again follow from the long ones")
            return int(bool(differences))
        build.write_pdf(study)
        return 0
    from lib import pipeline

    if given.command == "step":
        logging.basicConfig(level=logging.ERROR)  # papermill warns of each key that its notebook does not use
        pipeline.execute(study, given.step)
        return 0
    if given.command == "why":
        print(pipeline.explain(study))
        return 0
    status = pipeline.run(study, given.cores, given.data, given.landmarks)
    if status == 0:
        print(files.study_folder(study.study) / "report.pdf")
    return status


if __name__ == "__main__":
    sys.exit(main())
