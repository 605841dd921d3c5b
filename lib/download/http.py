"""One file over HTTP by pooch: never more bytes than are announced or allowed, and never half a file for a whole one.

A transfer that breaks off begins anew: going on with a part would need to know that the file is still the same.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pooch
import requests

WAITS_S = (1, 5, 15)  # before each further attempt
OPTIONS = {
    "chunk_size": 1 << 16,
    "timeout": (30, 60),  # to connect, and between two pieces, s
    "headers": {"Accept-Encoding": "identity"},  # else sizes would be those of a packed copy
}
PASSING = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def fetch(url: str, path: Path, size: int | None, most_bytes: int, log: Callable[[str], None]) -> None:
    """Downloads an http or https address to a file, which is whole when this returns, and to be thrown away otherwise.

    Of a known size in bytes, no more and no fewer are taken, and never more than `most_bytes`; `log` takes a line where
    it begins anew. ValueError for no answer, a web page, a size that differs, or too many bytes.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"{url}: expected an address that begins with http:// or https://")
    for wait_s in (*WAITS_S, None):
        try:
            with path.open("wb") as file:
                transfer = _Transfer(url, file, size, most_bytes)
                hooks = {"response": transfer.begin}
                pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), hooks=hooks, **OPTIONS)(url, transfer, None)
            if transfer.done < transfer.least:
                raise requests.ConnectionError(f"{transfer.done} of {transfer.least} bytes came")
            return
        except PASSING as error:
            if wait_s is None:
                raise ValueError(f"{url}: no answer, or broken off: {error}; the same command begins anew") from error
            log(f"{url}: no answer, or broken off; begins anew in {wait_s} s")
            time.sleep(wait_s)
        except requests.RequestException as error:
            raise ValueError(f"{url}: cannot be fetched: {error}") from error


class _Transfer:
    """What pooch writes to, and what looks at an answer before its body comes."""

    def __init__(self, url: str, file: BinaryIO, size: int | None, most_bytes: int):
        self.url, self.file = url, file
        self.least, self.most, self.done = size or 0, size or most_bytes, 0

    def begin(self, answer: requests.Response, **_: object) -> None:
        """Refuses by its head what is not the wanted file; the answers that lead on to it come here as well."""
        status, headers, fault = answer.status_code, answer.headers, ""
        announced = headers.get("Content-Length", "")
        if status in (408, 429) or status >= 500:
            raise requests.ConnectionError(f"status {status}")
        if self.url.lower().startswith("https://") and not answer.url.lower().startswith("https://"):
            fault = f"leads on to {answer.url}; expected https to stay https"
        elif answer.is_redirect:
            return
        elif status != 200:
            hint = "the site may want a login" if status in (401, 403) else "another address may be given by --url"
            fault = f"the server answers {status} {answer.reason}; {hint}"
        elif headers.get("Content-Type", "").lower().startswith("text/html"):
            fault = "the server sends a web page; expected a file (does the site want a login?)"
        elif headers.get("Content-Encoding", "identity") != "identity":
            fault = f"packed as {headers['Content-Encoding']} on the way; expected it as it is"
        elif announced and not (announced.isdecimal() and self.least <= int(announced) <= self.most):
            fault = f"the server announces {announced} bytes; expected {self.least} to {self.most}"
        if fault:
            raise ValueError(f"{self.url}: {fault}")
        self.least = int(announced or self.least)

    def write(self, piece: bytes) -> None:
        """Takes a piece; ValueError for more than there may be."""
        self.done += len(piece)
        if self.done > self.most:
            raise ValueError(f"{self.url}: more than {self.most} bytes come; expected no more, so it was stopped")
        self.file.write(piece)

    def flush(self) -> None:
        """Asked for by pooch after each piece; nothing is read before the end."""
