"""Command line: python -m lib study|why|download|verify|report|check-report|imports."""

import argparse
import sys
from functools import partial
from pathlib import Path

from lib import files, params


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; a fault that the user can mend is printed without a traceback, with status 2."""
    parser = argparse.ArgumentParser(prog="python -m lib", description="Studies of fetal ultrasound and brain MRI.")
    commands = parser.add_subparsers(dest="command", required=True)
    study = commands.add_parser("study", help="run what a study needs, from raw data to its PDF")
    study.add_argument("name", help="of a file in params/, without .yaml")
    study.add_argument("--cores", type=int, default=2)
    study.add_argument("--data", type=Path, help="raw folder, linked once as data/raw/<dataset>")
    study.add_argument("--landmarks", type=Path, help="folder of landmarks, linked once as data/raw/landmarks")
    why = commands.add_parser("why", help="what would run, and why")
    why.add_argument("name")
    report = commands.add_parser("report", help="build a study's PDF from its files")
    report.add_argument("name")
    check = commands.add_parser("check-report", help="recompute the printed tables from the long ones, and compare")
    check.add_argument("name")
    verify = commands.add_parser("verify", help="recognise the data set in a folder, open every file, say what to do")
    verify.add_argument("folder", type=Path)
    fetched = commands.add_parser("download", help="fetch, check and unpack a published data set, or verify it")
    fetched.add_argument("name", help="of a data set in data/sources.yaml")
    fetched.add_argument("--to", type=Path, default=files.ROOT / "data" / "raw", help="folder of raw data (data/raw)")
    fetched.add_argument("--url", nargs="+", default=[], help="addresses instead of those in data/sources.yaml")
    commands.add_parser("imports", help="who imports whom in lib, floor by floor")
    given = parser.parse_args(arguments)
    try:
        return run(given)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


def run(given: argparse.Namespace) -> int:
    """Runs one parsed command; imports only what it needs, so that the short ones are short."""
    if given.command == "imports":
        from lib import floors

        print(floors.drawing())
        return 0
    if given.command == "verify":
        from lib import advice

        text, sound = advice.report_on(given.folder)
        print(text)
        return int(not sound)
    if given.command == "download":
        from lib import download

        say = partial(print, flush=True)
        ready = download.download(given.name, given.to, given.url, say, partial(say, file=sys.stderr))
        return int(not ready)
    study = params.read_study(files.study_file(given.name))
    if given.command == "report":
        from lib import report

        report.build(study)
        return 0
    if given.command == "check-report":
        from lib import report

        differences = report.check(study)
        print("\n".join(differences) or "the printed tables that can be made again follow from the long ones")
        return int(bool(differences))
    from lib import graph

    if given.command == "why":
        print(graph.explain(study))
        return 0
    status = graph.run(study, given.cores, given.data, given.landmarks)
    if status == 0:
        print(files.study_folder(study.study) / "report.pdf")
    return status


if __name__ == "__main__":
    sys.exit(main())
