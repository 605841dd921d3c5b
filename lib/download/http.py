"""Download of one file over HTTP by pooch, with limits on size and a check that it is complete.

An interrupted transfer restarts from the beginning, since the file on the server may have changed.
"""

import re
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
    "timeout": (30, 60),  # seconds to connect, and between two chunks
    "headers": {"Accept-Encoding": "identity"},  # otherwise sizes would be those of a compressed copy
}
WEB_PAGE = "the server sent a web page; expected a file (does the site require a login?)"
PAGE_TYPES = ("text/html", "application/xhtml+xml")
PAGE_STARTS = (b"<!doctype html", b"<html")  # of a page that is announced as something else
TRANSIENT = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def fetch(url: str, path: Path, size: int | None, most_bytes: int, log: Callable[[str], None]) -> None:
    """Downloads an http or https address to a file, which is complete on return and must be discarded on an error.

    Retries are reported to `log`. ValueError if the server does not respond or sends a web page, the size differs from
    `size` (bytes, None if unknown), or exceeds `most_bytes`.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"{url}: expected an address that starts with http:// or https://")
    for wait_s in (*WAITS_S, None):
        try:
            with path.open("wb") as file:
                transfer = _Transfer(url, file, size, most_bytes)
                hooks = {"response": transfer.check_headers}
                pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), hooks=hooks, **OPTIONS)(url, transfer, None)
            if transfer.done < transfer.least:
                raise requests.ConnectionError(f"{transfer.done} of {transfer.least} bytes received")
            return
        except TRANSIENT as error:
            if wait_s is None:
                raise ValueError(f"{url}: no response or connection lost: {error}; run the command again") from error
            log(f"{url}: no response or connection lost; retrying in {wait_s} s")
            time.sleep(wait_s)
        except requests.RequestException as error:
            raise ValueError(f"{url}: download failed: {error}") from error


class _Transfer:
    """Output stream for pooch that checks the response headers before the body."""

    def __init__(self, url: str, file: BinaryIO, size: int | None, most_bytes: int):
        self.url, self.file = url, file
        self.least, self.most, self.done = size or 0, size or most_bytes, 0

    def check_headers(self, response: requests.Response, **_: object) -> None:
        """Checks the headers; ValueError unless they announce the expected file. Also called for redirects."""
        status, headers, fault = response.status_code, response.headers, ""
        announced = headers.get("Content-Length", "")
        if status in (408, 429) or status >= 500:
            raise requests.ConnectionError(f"status {status}")
        if self.url.lower().startswith("https://") and not response.url.lower().startswith("https://"):
            fault = f"redirected to {response.url}; expected an https address"
        elif response.is_redirect:
            return
        elif status != 200:
            hint = "the site may require a login" if status in (401, 403) else "set another address with --url"
            fault = f"the server responded {status} {response.reason}; {hint}"
        elif headers.get("Content-Type", "").partition(";")[0].strip().lower() in PAGE_TYPES:
            fault = WEB_PAGE
        elif headers.get("Content-Encoding", "identity") != "identity":
            fault = f"the transfer is compressed ({headers['Content-Encoding']}); expected the plain file"
        elif announced and not (re.fullmatch("[0-9]{1,18}", announced) and self.least <= int(announced) <= self.most):
            fault = f"the server announced {announced[:40]} bytes; expected {self.least} to {self.most}"
        if fault:
            raise ValueError(f"{self.url}: {fault}")
        self.least = int(announced or self.least)

    def write(self, chunk: bytes) -> None:
        """Writes a chunk; ValueError if the size limit is exceeded or the file begins as a web page."""
        if not self.done and chunk.lstrip(b"\xef\xbb\xbf \t\r\n")[:20].lower().startswith(PAGE_STARTS):
            raise ValueError(f"{self.url}: {WEB_PAGE}")
        self.done += len(chunk)
        if self.done > self.most:
            raise ValueError(f"{self.url}: stopped after {self.most} bytes, the largest size expected")
        self.file.write(chunk)

    def flush(self) -> None:
        """Required by pooch; has no effect, since the file is read only after it is closed."""
