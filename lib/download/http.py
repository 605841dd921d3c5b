"""One file over HTTP: taken up where it broke off, and never more bytes than were announced or are allowed."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests

from lib.study import files

CHUNK_BYTES = 1 << 16  # what is lost when a connection breaks
WAITS_S = (1, 5, 15)  # before each further attempt
TIMEOUT_S = (30, 60)  # to connect, and between two pieces
IDENTITY = {"Accept-Encoding": "identity"}  # else sizes and ranges would be those of a packed copy
LINES = 10  # of progress, a file
SHORT_STEP_BYTES, UNKNOWN_STEP_BYTES = 1 << 20, 1 << 26  # between lines: at least, and where the size is not known
PASSING = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


@dataclass(frozen=True)
class Start:
    """How an answer begins.

    Attributes:
        offset: bytes that are there already.
        total: of the whole file, None where the server does not say it.
    """

    offset: int
    total: int | None


def fetch(url: str, part: Path, size: int | None, most_bytes: int, show: Callable[[str], None]) -> None:
    """Downloads an address to a file; goes on with what an earlier call left of it.

    Going on needs a server that knows ranges and says by ETag or date that the file is still the same; else all is
    fetched again. What came is kept in `part` when the connection breaks, and removed when it cannot be right.

    Args:
        url: http or https.
        part: the file; `<part>.json` beside it says from where it comes until it is whole.
        size: in bytes, if it is known beforehand.
        most_bytes: more are never taken.
        show: takes lines of progress.

    Raises:
        ValueError: no answer, a web page, a size that differs, or too many bytes; it names the address.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"{url}: expected an address that begins with http:// or https://")
    for wait_s in (*WAITS_S, None):
        try:
            _attempt(url, part, size, most_bytes, show)
            _note(part).unlink(missing_ok=True)
            return
        except PASSING as error:
            held = f"{readable(_held(part))} kept, to go on with"
            if wait_s is None:
                raise ValueError(f"{url}: no answer, or broken off: {error}; {held} by the same command") from error
            show(f"{url}: no answer, or broken off; {held} in {wait_s} s")
            time.sleep(wait_s)
        except requests.exceptions.RequestException as error:
            raise ValueError(f"{url}: cannot be fetched: {error}") from error


def _attempt(url: str, part: Path, size: int | None, most_bytes: int, show: Callable[[str], None]) -> None:
    """One request, and all that it brings; PASSING errors are worth another one."""
    known = _resumable(url, part)
    if known.get("total") == _held(part) > 0:
        return
    headers = IDENTITY
    if known:
        headers = IDENTITY | {"Range": f"bytes={_held(part)}-", "If-Range": known["validator"]}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        start = _start(url, answer, part)
        if start is None:
            raise requests.exceptions.ConnectionError(f"status {answer.status_code}")
        _check_size(url, start.total, size, most_bytes, part)
        if start.offset == 0:
            _discard(part)  # before the new note: old bytes under it would be taken for this file's
        _write_note(url, answer, part, start.total)
        done = _receive(url, answer, part, start, size or most_bytes, show)
    if start.total is not None and done < start.total:
        raise requests.exceptions.ConnectionError(f"{done} of {start.total} bytes came")
    if size is not None and done != size:
        _discard(part)
        raise ValueError(f"{url}: {done} bytes came; expected {size}")


def _resumable(url: str, part: Path) -> dict:
    """What is known of a file that is there in part: validator, total; {} to begin anew."""
    if not (_held(part) and _note(part).is_file()):
        return {}
    known = files.read_json(_note(part))
    return known if known.get("url") == url and known.get("validator") else {}


def _start(url: str, answer: requests.Response, part: Path) -> Start | None:
    """Where an answer begins; None for one that is worth another attempt."""
    status, kind = answer.status_code, answer.headers.get("Content-Type", "")
    if status == 416:  # the part is longer than the file
        _discard(part)
    if status in (408, 416, 429) or status >= 500:
        return None
    if status not in (200, 206):
        hint = "; the site may want a login" if status in (401, 403) else "; another address may be given by --url"
        raise ValueError(f"{url}: the server answers {status} {answer.reason}{hint}")
    if kind.startswith("text/html"):
        raise ValueError(f"{url}: the server sends a web page; expected a file (does the site want a login?)")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise ValueError(f"{url}: packed as {answer.headers['Content-Encoding']} on the way; expected it as it is")
    if url.lower().startswith("https://") and not answer.url.lower().startswith("https://"):
        raise ValueError(f"{url}: leads on to {answer.url}; expected https to stay https")
    if status == 200:
        announced = answer.headers.get("Content-Length", "")
        return Start(0, int(announced) if announced.isdigit() else None)
    return _continued(answer, part)


def _continued(answer: requests.Response, part: Path) -> Start | None:
    """The start of a partial answer; None, and the part removed, if it does not follow on."""
    span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if span.partition("-")[0] != str(_held(part)):
        _discard(part)
        return None
    return Start(_held(part), int(total) if total.isdigit() else None)


def _check_size(url: str, total: int | None, size: int | None, most_bytes: int, part: Path) -> None:
    """Refuses an announced size before anything is taken."""
    if total is None or (total == size or (size is None and total <= most_bytes)):
        return
    _discard(part)
    expected = f"{size} bytes" if size is not None else f"at most {most_bytes} bytes"
    raise ValueError(f"{url}: the server announces {total} bytes; expected {expected}")


def _receive(
    url: str, answer: requests.Response, part: Path, start: Start, most_bytes: int, show: Callable[[str], None]
) -> int:
    """Writes what comes, and returns how long the file is then; ValueError for more than there may be."""
    most, done = most_bytes if start.total is None else start.total, start.offset
    tell = progress(part.name.removesuffix(".part"), start, show)
    with part.open("ab" if start.offset else "wb") as file:
        for piece in answer.iter_content(CHUNK_BYTES):
            done += len(piece)
            if done > most:
                break
            file.write(piece)
            tell(done)
    if done > most:
        _discard(part)
        raise ValueError(f"{url}: more than {most} bytes come; expected no more, so it was stopped")
    return done


def progress(name: str, start: Start, show: Callable[[str], None]) -> Callable[[int], None]:
    """What takes the number of bytes that are there, and shows a line at each tenth of a long file."""
    step = max(start.total / LINES, SHORT_STEP_BYTES) if start.total else UNKNOWN_STEP_BYTES
    told = start.offset // step

    def tell(done: int) -> None:
        nonlocal told
        if done // step > told:
            told = done // step
            show(f"{name}: {readable(done)}" + (f" of {readable(start.total)}" if start.total else ""))

    return tell


def readable(count: int) -> str:
    """A number of bytes for people: 132.9 MB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def _write_note(url: str, answer: requests.Response, part: Path, total: int | None) -> None:
    """Keeps what tells later whether the file is still the same; a weak ETag does not."""
    tag = answer.headers.get("ETag", "")
    validator = answer.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
    files.write_text(_note(part), json.dumps({"url": url, "validator": validator, "total": total}))


def _held(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
