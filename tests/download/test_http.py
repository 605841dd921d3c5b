import re

import numpy as np
import pytest
import requests

from lib.download import http
from tests.builders_web import Page, serving

BODY = np.random.default_rng(3).bytes(300_000)
OTHER = np.random.default_rng(4).bytes(300_000)
WAITS_S = http.WAITS_S  # before tests replace them


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(http, "WAITS_S", (0, 0, 0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


def fetch(site, folder, page=None, size=None, most=1_000_000):
    """The downloaded bytes of /a.zip and the log."""
    log = []
    if page:
        site.pages["/a.zip"] = page
    http.fetch(f"{site.address}/a.zip", folder / "a.zip", size, most, log.append)
    return (folder / "a.zip").read_bytes(), log


@pytest.mark.parametrize("announce", [None, ""])
def test_a_file_is_downloaded_in_one_request_or_after_a_redirect(site, tmp_path, announce):
    assert fetch(site, tmp_path, Page(BODY, announce=announce)) == (BODY, [])
    assert site.asked == ["/a.zip"]
    site.pages["/b.zip"] = Page(OTHER, announce=announce)
    assert fetch(site, tmp_path, redirect("/b.zip"))[0] == OTHER


def test_an_interrupted_download_restarts_with_a_message_and_is_not_mixed_with_another_file(site, tmp_path):
    body, log = fetch(site, tmp_path, Page(BODY, breaks=[200_000, 100_000]), size=len(BODY))
    assert body == BODY
    assert log == [f"{site.address}/a.zip: no response or connection lost; retrying in 0 s"] * 2
    site.pages["/a.zip"] = page = Page(BODY, breaks=[200_000])
    address = f"{site.address}/a.zip"
    http.fetch(address, tmp_path / "a.zip", None, 1_000_000, lambda _: setattr(page, "body", OTHER))
    assert (tmp_path / "a.zip").read_bytes() == OTHER


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_server_is_retried_after_increasing_pauses(site, tmp_path, monkeypatch, status):
    pauses_s = []
    monkeypatch.setattr(http, "WAITS_S", WAITS_S)
    monkeypatch.setattr(http.time, "sleep", pauses_s.append)
    assert fetch(site, tmp_path, Page(BODY, status=[status, status]))[0] == BODY
    assert len(site.asked) == 3
    assert pauses_s == [1, 5]


def redirect(address):
    return Page(b"", status=[302], headers={"Location": address})


# page, known size, error message, number of requests
REFUSED = {
    "always-breaks": (Page(BODY, breaks=[9, 9, 9, 9]), None, "connection lost: .*; run the command again", 4),
    "announces-more-than-sent": (Page(BODY, announce="400000"), None, "connection lost: .*", 4),
    "fewer-bytes-than-known": (Page(BODY, announce=""), 300_001, "300000 of 300001 bytes received", 4),
    "announces-less-than-known": (Page(BODY, announce="10"), 300_000, "announced 10 bytes; expected 300000 to ", 1),
    "announces-more-than-allowed": (Page(BODY, announce="1000001"), None, "bytes; expected 0 to 1000000", 1),
    "announces-no-number": (Page(BODY, announce="-5"), None, "announced -5 bytes; expected 0 to 1000000", 1),
    **{
        f"announces-{text[:5]}": (Page(BODY, announce=text), None, rf"announced {re.escape(text[:40])} bytes; ", 1)
        for text in ("abc", "1e5", "0x10", "+9", "9" * 5000, "5, 5", "²")
    },
    "does-not-end": (Page(bytes(50_000_000), announce=""), None, "stopped after 1000000 bytes", 1),
    "more-bytes-than-known": (Page(BODY, announce=""), 1000, "stopped after 1000 bytes", 1),
    **{
        f"web-page-{kind}": (Page(BODY, headers={"Content-Type": kind}), None, "sent a web page", 1)
        for kind in ("Text/html; charset=utf-8", "TEXT/HTML", "text/html ;charset=x", "Application/XHTML+XML;a=b")
    },
    **{
        f"page-announced-as-zip-{start[:9]}": (Page(start + BODY), None, "sent a web page", 1)
        for start in (b"<!DOCTYPE html>", b"\xef\xbb\xbf\r\n <HTML>")
    },
    "compressed-transfer": (Page(BODY, headers={"Content-Encoding": "gzip"}), None, r"is compressed \(gzip\)", 1),
    "forbidden": (Page(BODY, status=[403]), None, "responded 403 Forbidden; the site may require a login", 1),
    "gone": (Page(BODY, status=[410]), None, "responded 410 Gone; set another address with --url", 1),
    "part-not-requested": (Page(BODY, status=[206]), None, "responded 206 Partial Content", 1),
    "redirect-to-local-file": (redirect("file:///etc/hostname"), None, "download failed: No connection adapters", 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_any_response_other_than_the_expected_file_is_refused(site, tmp_path, name):
    page, size, message, asked = REFUSED[name]
    with pytest.raises(ValueError, match=rf"http://127\.0\.0\.1:\d+/a\.zip: .*{message}"):
        fetch(site, tmp_path, page, size)
    assert len(site.asked) == asked
    assert (tmp_path / "a.zip").stat().st_size <= 1_000_000
    assert site.sent < 30_000_000  # includes the connection's buffers


def test_a_redirect_from_https_to_http_is_refused(tmp_path):
    response = requests.Response()
    response.status_code, response.url = 200, "http://mirror.example/a.zip"
    with (tmp_path / "a.zip").open("wb") as file:
        transfer = http._Transfer("https://site.example/a.zip", file, None, 10)
        with pytest.raises(ValueError, match=r"redirected to http://mirror\.example/a\.zip; expected an https"):
            transfer.check_headers(response)


def test_only_web_addresses_are_accepted_and_a_missing_server_is_an_error_after_some_attempts(site, tmp_path):
    for url in ("ftp://127.0.0.1/a.zip", "file:///etc/hostname", "a.zip", ""):
        with pytest.raises(ValueError, match="expected an address that starts with http:// or https://"):
            http.fetch(url, tmp_path / "a.zip", None, 10, print)
        assert not (tmp_path / "a.zip").exists()
    site.address = "http://127.0.0.1:9"  # the port of "discard", which is not served
    with pytest.raises(ValueError, match=r"no response or connection lost: .*; run the command again"):
        fetch(site, tmp_path)
