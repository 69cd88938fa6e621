"""How the dashboard's files are served: nothing else is, and browsers may keep what never changes."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.support.hub import RunningHub, ready_hub
from trunkline.edge.http.dashboard import FOLDER, dashboard_pages


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub() as running:
        yield running


def test_the_page_lets_nothing_foreign_in(hub: RunningHub) -> None:
    answer = hub.get("/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert re.search(rb"<style|style=|<script(?![^>]*src)", answer.body) is None
    assert hub.get("/", {"Host": "evil.example"}).status == 403


def test_what_never_changes_is_kept_and_the_page_is_asked_about(hub: RunningHub) -> None:
    page = hub.get("/")
    assert page.headers["cache-control"] == "no-cache"
    again = hub.get("/", {"If-None-Match": page.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    scripts = re.findall(rb'src="\./(assets/[^"]+\.js)"', page.body)
    assert len(scripts) == 1
    script = hub.get(f"/{scripts[0].decode()}")
    assert script.status == 200
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(("accepted", "packed"), [("gzip, br", True), ("gzip;q=0", False), ("", False)])
def test_it_travels_compressed_where_that_is_understood(hub: RunningHub, accepted: str, packed: bool) -> None:
    plain = hub.get("/")
    answer = hub.get("/", {"Accept-Encoding": accepted})
    assert ("content-encoding" in answer.headers) is packed
    assert (gzip.decompress(answer.body) if packed else answer.body) == plain.body
    assert (answer.headers["etag"] == plain.headers["etag"]) is not packed
    assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "path",
    ["/../dashboard.py", "/%2e%2e/dashboard.py", "/assets/../../http.py", "/assets/", "/index.html.gz", "//etc/passwd"],
)
def test_no_other_file_has_an_address(hub: RunningHub, path: str) -> None:
    assert hub.get(path).status == 404


def test_what_was_not_built_is_explained(tmp_path: Path) -> None:
    assert FOLDER.is_dir(), "make setup builds it"
    client = TestClient(Starlette(routes=[Route(path, page) for path, page in dashboard_pages(tmp_path).items()]))
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "make setup" in answer.text
    assert "/ws" in answer.text
