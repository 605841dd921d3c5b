"""A small web server on this machine whose pages break off, lie about their size, or know no ranges."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 1 << 14


@dataclass
class Page:
    """What the server does with one address.

    Attributes:
        body: of the file.
        status: other than 200: of the first answers, one each; then the file comes.
        ranges: whether it answers a part where a part is asked for.
        breaks: after how many bytes the first answers end, one each.
        announce: a Content-Length that is not that of the body; "" for none at all.
        headers: further ones.
        hang: an event that is waited for after the first break, with the connection left open.
        most_part: bytes that it sends at once where a part is asked for; 0 for all.
        leads_to: another address that takes its place.
    """

    body: bytes
    status: list[int] = field(default_factory=list)
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)
    announce: str | None = None
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"', "Content-Type": "application/zip"})
    hang: threading.Event | None = None
    most_part: int = 0
    leads_to: str = ""


@dataclass
class Site:
    """A running server: where it is, its pages, what was asked and how much was sent."""

    address: str
    pages: dict[str, Page]
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0


@contextmanager
def serving() -> Iterator[Site]:
    """A server on a free port of 127.0.0.1, for as long as the block lasts."""
    site = Site("", {})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, self.headers.get("Range")))
            page = site.pages.get(self.path)
            if page is None or page.status:
                self.send_error(page.status.pop(0) if page else 404)
                return
            answer(self, page, site)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        for page in site.pages.values():
            if page.hang:
                page.hang.set()
        server.shutdown()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, page: Page, site: Site) -> None:
    """The file, or the part that was asked for if the file is still the same."""
    if page.leads_to:
        handler.send_response(302)
        handler.send_header("Location", page.leads_to)
        handler.end_headers()
        return
    start = asked_from(handler, page)
    if start > len(page.body):
        handler.send_error(416)
        return
    body = page.body[start:]
    if start and page.most_part:
        body = body[: page.most_part]
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(page.body)}")
    length = str(len(body)) if page.announce is None else page.announce
    if length:
        handler.send_header("Content-Length", length)
    for name, value in page.headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    stop = page.breaks.pop(0) if page.breaks else len(body)
    for begin in range(0, min(stop, len(body)), PIECE):
        piece = body[begin : min(begin + PIECE, stop)]
        try:
            handler.wfile.write(piece)
        except OSError:  # the client has had enough
            break
        site.sent += len(piece)
    if page.hang and stop < len(body):
        handler.wfile.flush()
        page.hang.wait()
    handler.close_connection = True


def asked_from(handler: BaseHTTPRequestHandler, page: Page) -> int:
    """The first byte that is asked for; 0 for the whole file."""
    wanted, validator = handler.headers.get("Range"), handler.headers.get("If-Range")
    same = validator in (page.headers.get("ETag"), page.headers.get("Last-Modified"))
    if not (page.ranges and wanted and same):
        return 0
    return int(wanted.removeprefix("bytes=").partition("-")[0])
