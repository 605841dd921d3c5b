"""A small web server on this machine whose pages break off or lie about their size."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 1 << 14


@dataclass
class Page:
    """What the server does with one address."""

    body: bytes
    status: list[int] = field(default_factory=list)  # other than 200: of the first answers; then the file comes
    breaks: list[int] = field(default_factory=list)  # after how many bytes the first answers end
    announce: str | None = None  # a Content-Length that is not that of the body; "" for none at all
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/zip"})
    hang: threading.Event | None = None  # is waited for after the first break, with the connection left open


@dataclass
class Site:
    """A running server: where it is, its pages, which were asked for and how much was sent."""

    address: str
    pages: dict[str, Page]
    asked: list[str] = field(default_factory=list)
    sent: int = 0


@contextmanager
def serving() -> Iterator[Site]:
    """A server on a free port of 127.0.0.1, for as long as the block lasts."""
    site = Site("", {})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            page = site.pages.get(self.path)
            if page is None:
                self.send_error(404)
            else:
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
    """A status, and the file as far as it is to come."""
    handler.send_response(page.status.pop(0) if page.status else 200)
    length = str(len(page.body)) if page.announce is None else page.announce
    for name, value in (page.headers | ({"Content-Length": length} if length else {})).items():
        handler.send_header(name, value)
    handler.end_headers()
    stop = page.breaks.pop(0) if page.breaks else len(page.body)
    for begin in range(0, stop, PIECE):
        piece = page.body[begin : min(begin + PIECE, stop)]
        try:
            handler.wfile.write(piece)
        except OSError:  # the client has had enough
            break
        site.sent += len(piece)
    if page.hang and stop < len(page.body):
        handler.wfile.flush()
        page.hang.wait()
    handler.close_connection = True
