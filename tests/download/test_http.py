"""Downloads that break off, go on, lie and do not end, from a server on this machine."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import requests

from lib.download import http
from tests.builders_web import Page, serving

BODY = np.random.default_rng(3).bytes(300_000)
OTHER = np.random.default_rng(4).bytes(300_000)
MOST = 1_000_000


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(http, "WAITS_S", (0, 0, 0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


@pytest.fixture
def part(tmp_path):
    return tmp_path / "a file.zip.part"


def fetch(site, part, size=None, most=MOST, path="/a.zip"):
    shown = []
    http.fetch(site.address + path, part, size, most, shown.append)
    return shown


def left(part):
    return sorted(path.name for path in part.parent.iterdir())


def test_a_file_is_fetched_whole_by_one_request(site, part):
    site.pages["/a.zip"] = Page(BODY)
    assert fetch(site, part, size=len(BODY)) == []
    assert part.read_bytes() == BODY
    assert site.asked == [("/a.zip", None)]
    assert left(part) == [part.name]


def test_a_download_that_breaks_off_goes_on_where_it_was(site, part):
    site.pages["/a.zip"] = Page(BODY, breaks=[200_000])
    shown = fetch(site, part, size=len(BODY))
    (_, none), (_, asked) = site.asked
    assert none is None
    assert asked == f"bytes={200_000 // http.CHUNK_BYTES * http.CHUNK_BYTES}-"
    assert part.read_bytes() == BODY
    assert site.sent < 1.3 * len(BODY)
    assert "kept, to go on with in 0 s" in shown[0]


def test_after_some_attempts_the_part_is_kept_and_the_next_call_goes_on_with_it(site, part):
    site.pages["/a.zip"] = Page(BODY, breaks=[140_000, 0, 0, 0])
    with pytest.raises(
        ValueError, match=r"/a\.zip: no answer, or broken off: .*131\.1 kB kept, to go on with by the same"
    ):
        fetch(site, part)
    assert len(site.asked) == 4
    assert part.read_bytes() == BODY[:131_072]
    fetch(site, part)
    assert site.asked[4] == ("/a.zip", "bytes=131072-")
    assert part.read_bytes() == BODY
    assert left(part) == [part.name]


def test_a_server_without_ranges_is_asked_for_the_whole_again(site, part):
    site.pages["/a.zip"] = Page(BODY, ranges=False, breaks=[200_000])
    fetch(site, part)
    assert site.asked[1][1] is not None  # it was asked for the rest
    assert part.read_bytes() == BODY


def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(site, part):
    site.pages["/a.zip"] = Page(BODY, breaks=[200_000, 0, 0, 0])
    with pytest.raises(ValueError, match="broken off"):
        fetch(site, part)
    site.pages["/a.zip"] = Page(OTHER, headers={"ETag": '"two"'})
    fetch(site, part)
    assert part.read_bytes() == OTHER


def test_a_call_that_ends_before_the_changed_file_begins_leaves_no_mixture(site, part, monkeypatch):
    site.pages["/a.zip"] = Page(BODY, breaks=[200_000, 0, 0, 0])
    with pytest.raises(ValueError, match="broken off"):
        fetch(site, part)
    site.pages["/a.zip"] = Page(OTHER, headers={"ETag": '"two"'})
    with monkeypatch.context() as patch:
        patch.setattr(http, "_receive", stopped_by_hand)
        with pytest.raises(KeyboardInterrupt):
            fetch(site, part)
    fetch(site, part)
    assert part.read_bytes() == OTHER


def stopped_by_hand(*_):
    raise KeyboardInterrupt


def test_a_server_that_sends_parts_in_pieces_is_asked_for_more(site, part):
    site.pages["/a.zip"] = Page(BODY, breaks=[100_000], most_part=120_000)
    fetch(site, part)
    assert [asked for _, asked in site.asked] == [None, "bytes=65536-", "bytes=185536-"]
    assert part.read_bytes() == BODY


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"one"'}])
def test_a_file_that_cannot_be_told_from_another_is_begun_anew(site, part, headers):
    site.pages["/a.zip"] = Page(BODY, breaks=[200_000], headers=headers)
    fetch(site, part)
    assert [asked for _, asked in site.asked] == [None, None]
    assert part.read_bytes() == BODY


def test_a_date_serves_where_there_is_no_strong_tag(site, part):
    headers = {"ETag": 'W/"one"', "Last-Modified": "Fri, 21 Nov 2025 10:00:00 GMT"}
    site.pages["/a.zip"] = Page(BODY, breaks=[200_000], headers=headers)
    fetch(site, part)
    assert site.asked[1][1] is not None
    assert part.read_bytes() == BODY


def test_a_part_of_another_address_is_not_gone_on_with(site, part):
    site.pages |= {"/a.zip": Page(BODY, breaks=[200_000, 0, 0, 0]), "/b.zip": Page(OTHER)}
    with pytest.raises(ValueError, match="broken off"):
        fetch(site, part)
    fetch(site, part, path="/b.zip")
    assert site.asked[-1] == ("/b.zip", None)
    assert part.read_bytes() == OTHER


def test_an_answer_that_does_not_follow_on_is_begun_anew(site, part, monkeypatch):
    site.pages["/a.zip"] = Page(BODY, breaks=[200_000])
    real = http._continued

    def elsewhere(answer, held):
        answer.headers["Content-Range"] = answer.headers["Content-Range"].replace("196608-", "190000-")
        return real(answer, held)

    monkeypatch.setattr(http, "_continued", elsewhere)
    fetch(site, part)
    assert [asked for _, asked in site.asked] == [None, "bytes=196608-", None]
    assert part.read_bytes() == BODY


def test_a_part_longer_than_the_file_is_begun_anew(site, part):
    site.pages["/a.zip"] = Page(BODY, breaks=[200_000, 0, 0, 0])
    with pytest.raises(ValueError, match="broken off"):
        fetch(site, part)
    part.write_bytes(BODY + b"more")
    fetch(site, part)
    assert part.read_bytes() == BODY


def test_a_part_that_is_whole_is_not_asked_for_again(site, part):
    site.pages["/a.zip"] = Page(BODY, breaks=[200_000, 0, 0, 0])
    with pytest.raises(ValueError, match="broken off"):
        fetch(site, part)
    part.write_bytes(BODY)
    before = len(site.asked)
    fetch(site, part)
    assert len(site.asked) == before
    assert left(part) == [part.name]


def test_more_announced_than_comes_is_a_break(site, part):
    site.pages["/a.zip"] = Page(BODY, announce="400000", ranges=False)
    with pytest.raises(ValueError, match=r"broken off: .*IncompleteRead"):
        fetch(site, part)
    assert len(site.asked) == 4


def test_less_announced_than_is_known_is_refused_before_anything_is_taken(site, part):
    site.pages["/a.zip"] = Page(BODY, announce="1000")
    with pytest.raises(ValueError, match=r"/a\.zip: the server announces 1000 bytes; expected 300000 bytes"):
        fetch(site, part, size=len(BODY))
    assert left(part) == []


def test_more_announced_than_is_allowed_is_refused_before_anything_is_taken(site, part):
    site.pages["/a.zip"] = Page(BODY)
    with pytest.raises(ValueError, match=r"the server announces 300000 bytes; expected at most 250000 bytes"):
        fetch(site, part, most=250_000)
    assert left(part) == []


def test_a_file_that_does_not_end_is_stopped_at_the_limit_and_removed(site, part):
    site.pages["/a.zip"] = Page(bytes(50_000_000), announce="")
    with pytest.raises(ValueError, match=r"/a\.zip: more than 1000000 bytes come; expected no more, so it was stopped"):
        fetch(site, part)
    assert left(part) == []
    assert site.sent < 30_000_000  # what lies in the buffers of the connection was sent as well


def test_a_file_of_unknown_length_is_stopped_at_the_known_size(site, part):
    site.pages["/a.zip"] = Page(BODY, announce="")
    with pytest.raises(ValueError, match="more than 1000 bytes come"):
        fetch(site, part, size=1000)
    assert left(part) == []


def test_fewer_bytes_than_are_known_are_refused_where_none_are_announced(site, part):
    site.pages["/a.zip"] = Page(BODY, announce="")
    with pytest.raises(ValueError, match="300000 bytes came; expected 300001"):
        fetch(site, part, size=300_001)
    assert left(part) == []


def test_a_file_without_an_announced_length_is_fetched_whole(site, part):
    site.pages["/a.zip"] = Page(BODY, announce="")
    fetch(site, part)
    assert part.read_bytes() == BODY


def test_an_absent_file_is_asked_for_once(site, part):
    with pytest.raises(
        ValueError, match=r"/a\.zip: the server answers 404 Not Found; another address may be given by --url"
    ):
        fetch(site, part)
    assert len(site.asked) == 1


def test_a_refusal_says_that_a_login_may_be_wanted(site, part):
    site.pages["/a.zip"] = Page(BODY, status=[403])
    with pytest.raises(ValueError, match="the server answers 403 Forbidden; the site may want a login"):
        fetch(site, part)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(site, part, status):
    site.pages["/a.zip"] = Page(BODY, status=[status, status])
    fetch(site, part)
    assert len(site.asked) == 3
    assert part.read_bytes() == BODY


def test_a_web_page_instead_of_a_file_is_refused(site, part):
    site.pages["/a.zip"] = Page(b"<html>log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(
        ValueError, match=r"the server sends a web page; expected a file \(does the site want a login\?\)"
    ):
        fetch(site, part)
    assert left(part) == []


def test_a_file_packed_on_the_way_is_refused(site, part):
    site.pages["/a.zip"] = Page(BODY, headers={"Content-Encoding": "gzip"})
    with pytest.raises(ValueError, match="packed as gzip on the way; expected it as it is"):
        fetch(site, part)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a.zip", "file:///etc/hostname", "a.zip", ""])
def test_only_web_addresses_are_taken(part, url):
    with pytest.raises(ValueError, match="expected an address that begins with http:// or https://"):
        http.fetch(url, part, None, MOST, print)
    assert left(part) == []


def test_an_address_that_leads_elsewhere_is_followed(site, part):
    site.pages |= {"/a.zip": Page(b"", leads_to="/b.zip"), "/b.zip": Page(BODY)}
    fetch(site, part)
    assert part.read_bytes() == BODY


def test_an_address_that_leads_to_a_local_file_is_refused(site, part):
    site.pages["/a.zip"] = Page(b"", leads_to="file:///etc/hostname")
    with pytest.raises(ValueError, match=r"/a\.zip: cannot be fetched: No connection adapters"):
        fetch(site, part)
    assert left(part) == []


def test_a_safe_address_that_leads_to_an_unsafe_one_is_refused(part):
    answer = requests.Response()
    answer.status_code, answer.url = 200, "http://mirror.example/a.zip"
    with pytest.raises(ValueError, match=r"leads on to http://mirror\.example/a\.zip; expected https to stay https"):
        http._start("https://site.example/a.zip", answer, part)


def test_no_server_is_said_after_some_attempts(site, part, monkeypatch):
    monkeypatch.setattr(http, "WAITS_S", (0,))
    site.address = "http://127.0.0.1:9"  # the port of "discard", which nobody serves
    with pytest.raises(
        ValueError, match=r"no answer, or broken off: .*; 0 bytes kept, to go on with by the same command"
    ):
        fetch(site, part)


def test_a_killed_download_goes_on_in_the_next_process(site, part):
    site.pages["/a.zip"] = Page(BODY, breaks=[200_000], hang=threading.Event())
    program = (
        "import sys, pathlib; from lib.download import http;"
        f"http.fetch('{site.address}/a.zip', pathlib.Path(sys.argv[1]), None, {MOST}, print)"
    )
    running = subprocess.Popen([sys.executable, "-c", program, str(part)])
    deadline = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    held = part.stat().st_size
    assert 0 < held < len(BODY)
    fetch(site, part)
    assert site.asked[1] == ("/a.zip", f"bytes={held}-")
    assert part.read_bytes() == BODY


def test_a_long_file_shows_a_line_each_tenth():
    shown = []
    tell = http.progress("a.zip", http.Start(0, 40_000_000), shown.append)
    for done in range(0, 40_000_001, 500_000):
        tell(done)
    assert len(shown) == 10
    assert shown[0] == "a.zip: 4.0 MB of 40.0 MB"
    assert shown[-1] == "a.zip: 40.0 MB of 40.0 MB"


def test_a_file_of_unknown_size_shows_what_came():
    shown = []
    tell = http.progress("a.zip", http.Start(0, None), shown.append)
    for done in range(0, 200_000_001, 10_000_000):
        tell(done)
    assert shown == ["a.zip: 70.0 MB", "a.zip: 140.0 MB"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (132_926_838, "132.9 MB"), (2_400_000_000, "2.4 GB")],
)
def test_bytes_are_written_for_people(count, text):
    assert http.readable(count) == text
