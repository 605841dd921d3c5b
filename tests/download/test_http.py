"""Downloads that break off, lie and do not end, from a server on this machine."""

import numpy as np
import pytest
import requests

from lib.download import http
from tests.builders_web import Page, serving

BODY = np.random.default_rng(3).bytes(300_000)
OTHER = np.random.default_rng(4).bytes(300_000)


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(http, "WAITS_S", (0, 0, 0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


def fetch(site, folder, page=None, size=None, most=1_000_000):
    """The file that comes from /a.zip, and what was said meanwhile."""
    said = []
    if page:
        site.pages["/a.zip"] = page
    http.fetch(f"{site.address}/a.zip", folder / "a.zip", size, most, said.append)
    return (folder / "a.zip").read_bytes(), said


@pytest.mark.parametrize("announce", [None, ""])
def test_a_file_is_fetched_whole_by_one_request_or_by_another_server(site, tmp_path, announce):
    assert fetch(site, tmp_path, Page(BODY, announce=announce)) == (BODY, [])
    assert site.asked == ["/a.zip"]
    site.pages["/b.zip"] = Page(OTHER, announce=announce)
    assert fetch(site, tmp_path, leading_to("/b.zip"))[0] == OTHER


def test_a_download_that_breaks_off_begins_anew_says_so_and_is_not_mixed_with_another_file(site, tmp_path):
    body, said = fetch(site, tmp_path, Page(BODY, breaks=[200_000, 100_000]), size=len(BODY))
    assert body == BODY
    assert said == [f"{site.address}/a.zip: no answer, or broken off; begins anew in 0 s"] * 2
    site.pages["/a.zip"] = page = Page(BODY, breaks=[200_000])
    address = f"{site.address}/a.zip"
    http.fetch(address, tmp_path / "a.zip", None, 1_000_000, lambda _: setattr(page, "body", OTHER))
    assert (tmp_path / "a.zip").read_bytes() == OTHER


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_server_is_asked_again(site, tmp_path, status):
    assert fetch(site, tmp_path, Page(BODY, status=[status, status]))[0] == BODY
    assert len(site.asked) == 3


def leading_to(address):
    return Page(b"", status=[302], headers={"Location": address})


# what the page does; what is known of the size; what is said; how often it is asked
REFUSED = {
    "always-breaks": (Page(BODY, breaks=[9, 9, 9, 9]), None, "broken off: .*; the same command begins anew", 4),
    "announces-more-than-comes": (Page(BODY, announce="400000"), None, "broken off: .*", 4),
    "fewer-bytes-than-known": (Page(BODY, announce=""), 300_001, "300000 of 300001 bytes came", 4),
    "announces-less-than-known": (Page(BODY, announce="10"), 300_000, "announces 10 bytes; expected 300000 to ", 1),
    "announces-more-than-allowed": (Page(BODY, announce="1000001"), None, "bytes; expected 0 to 1000000", 1),
    "announces-no-number": (Page(BODY, announce="-5"), None, "announces -5 bytes; expected 0 to 1000000", 1),
    "does-not-end": (Page(bytes(50_000_000), announce=""), None, "more than 1000000 bytes come; .* was stopped", 1),
    "more-bytes-than-known": (Page(BODY, announce=""), 1000, "more than 1000 bytes come", 1),
    "web-page": (Page(BODY, headers={"Content-Type": "Text/html; charset=utf-8"}), None, "sends a web page", 1),
    "packed-on-the-way": (Page(BODY, headers={"Content-Encoding": "gzip"}), None, "packed as gzip on the way", 1),
    "forbidden": (Page(BODY, status=[403]), None, "answers 403 Forbidden; the site may want a login", 1),
    "gone": (Page(BODY, status=[410]), None, "answers 410 Gone; another address may be given by --url", 1),
    "part-unasked": (Page(BODY, status=[206]), None, "answers 206 Partial Content", 1),
    "leads-to-local-file": (leading_to("file:///etc/hostname"), None, "cannot be fetched: No connection adapters", 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_wanted_file_is_refused_by_name(site, tmp_path, name):
    page, size, words, asked = REFUSED[name]
    with pytest.raises(ValueError, match=rf"http://127\.0\.0\.1:\d+/a\.zip: .*{words}"):
        fetch(site, tmp_path, page, size)
    assert len(site.asked) == asked
    assert (tmp_path / "a.zip").stat().st_size <= 1_000_000
    assert site.sent < 30_000_000  # what lies in the buffers of the connection was sent as well


def test_a_safe_address_that_leads_to_an_unsafe_one_is_refused(tmp_path):
    answer = requests.Response()
    answer.status_code, answer.url = 200, "http://mirror.example/a.zip"
    with (tmp_path / "a.zip").open("wb") as file:
        transfer = http._Transfer("https://site.example/a.zip", file, None, 10)
        with pytest.raises(ValueError, match=r"leads on to http://mirror\.example/a\.zip; expected https to stay"):
            transfer.begin(answer)


def test_only_web_addresses_are_taken_and_no_server_is_said_after_some_attempts(site, tmp_path):
    for url in ("ftp://127.0.0.1/a.zip", "file:///etc/hostname", "a.zip", ""):
        with pytest.raises(ValueError, match="expected an address that begins with http:// or https://"):
            http.fetch(url, tmp_path / "a.zip", None, 10, print)
        assert not (tmp_path / "a.zip").exists()
    site.address = "http://127.0.0.1:9"  # the port of "discard", which nobody serves
    with pytest.raises(ValueError, match=r"no answer, or broken off: .*; the same command begins anew"):
        fetch(site, tmp_path)
