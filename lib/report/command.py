"""The commands `report`, which typesets the report of a finished study, and `watch`, which does so on each save."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.report import texts
from lib.study import environment, files, own_files, params, system_files

PAUSE_SECONDS = 0.2  # between two looks at the files
State = dict[Path, tuple[int, int]]  # time of the last change (ns) and size (bytes) of each file


def typeset(name: str, draft: bool, say: Callable[[object], None], fail: Callable[[str, int], int]) -> int:
    """Typesets a study's report; 1 if a text of its author does not compile, after all others are typeset."""
    from lib.report import build, bundle, model_card  # take a second

    study, status = params.read_study(files.study_file(name)), 0
    try:
        build.write_pdf(study, draft)
    except texts.FaultyTextsError as error:
        advice = "report.pdf has a warning in place of each text above, and the rest of the report"
        status = fail(f"{error}\n{advice}", 1)
    made = {"bundle": bundle.bundle_file(study), "card": model_card.card_file(study)}
    for what, path in made.items():
        outdated = bundle.set_aside(path)
        if outdated is not None:
            say(f"the {what} of an earlier report is now {outdated}; a new one: make {what} STUDY={study.study}")
    if not environment.in_workflow():
        say(files.study_folder(name) / "report.pdf")
    return status


def watch(name: str, draft: bool, say: Callable[[object], None], fail: Callable[[str, int], int]) -> int:
    """Typesets a report now and after each save of a text or the study file, until Ctrl-C; errors do not end it."""
    try:
        for _ in saves(lambda: state_of(name)):
            began = time.monotonic()
            try:
                typeset(name, draft, say, fail)
            except (ValueError, OSError) as error:
                fail(str(error), 2)
            say(f"took {time.monotonic() - began:.1f} s; waits for a save in texts/{name}/ (Ctrl-C ends)")
    except KeyboardInterrupt:
        say("stopped watching")
    return 0


def saves(look: Callable[[], State]) -> Iterator[None]:
    """Yields at once, and then each time the files have changed and were left alone for one look."""
    seen: State | None = None
    while True:
        now = look()
        if now != seen:
            while (later := _after_a_pause(look)) != now:  # a program may write a file in several steps
                now = later
            seen = now
            yield
        time.sleep(PAUSE_SECONDS)


def _after_a_pause(look: Callable[[], State]) -> State:
    time.sleep(PAUSE_SECONDS)
    return look()


def state_of(name: str) -> State:
    """State of the texts and the file of a study; files that are being replaced are left out."""
    state = {}
    for path in [*system_files.walk(own_files.folder_of(name))[0], files.study_file(name)]:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        state[path] = (status.st_mtime_ns, status.st_size)
    return state
