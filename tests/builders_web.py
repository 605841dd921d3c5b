"""A local web server whose pages can break off or announce a wrong size."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK = 1 << 14


@dataclass
class Page:
    """The server's response to one address."""

    body: bytes
    status: list[int] = field(default_factory=list)  # of the first responses; then 200
    breaks: list[int] = field(default_factory=list)  # number of bytes after which the first responses end
    announce: str | None = None  # a false Content-Length; "" for none
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/zip"})
    hang: threading.Event | None = None  # keeps the connection open after a break until it is set


@dataclass
class Site:
    """A running server: address, pages, requested paths and bytes sent."""

    address: str
    pages: dict[str, Page]
    asked: list[str] = field(default_factory=list)
    sent: int = 0


@contextmanager
def serving() -> Iterator[Site]:
    """A server on a free port of 127.0.0.1 for the duration of the block."""
    site = Site("", {})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            page = site.pages.get(self.path)
            if page is None:
                self.send_error(404)
            else:
                respond(self, page, site)

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


def respond(handler: BaseHTTPRequestHandler, page: Page, site: Site) -> None:
    """Sends the status, the headers and the body up to the next break."""
    handler.send_response(page.status.pop(0) if page.status else 200)
    length = str(len(page.body)) if page.announce is None else page.announce
    for name, value in (page.headers | ({"Content-Length": length} if length else {})).items():
        handler.send_header(name, value)
    handler.end_headers()
    stop = page.breaks.pop(0) if page.breaks else len(page.body)
    for start in range(0, stop, CHUNK):
        chunk = page.body[start : min(start + CHUNK, stop)]
        try:
            handler.wfile.write(chunk)
        except OSError:  # the client closed the connection
            break
        site.sent += len(chunk)
    if page.hang and stop < len(page.body):
        handler.wfile.flush()
        page.hang.wait()
    handler.close_connection = True
