"""What a hub that stops leaves of the methods that clients serve, and what the next one makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.hosting.served_methods import FILE, keep, take
from trunkline.hub.callees import KeptMethod
from trunkline_protocol.catalogue import CLIENT_PACK, MethodInfo

METHODS = [
    KeptMethod(MethodInfo("a.b", "Does it.", CLIENT_PACK, streaming=True), ("node", "acme")),
    KeptMethod(MethodInfo("c", pack=CLIENT_PACK, idempotent=True), ("anonymous", "default")),
]


def test_what_was_kept_is_taken_once(tmp_path: Path) -> None:
    data = tmp_path / "not" / "there"
    assert take(data) == []
    keep(data, METHODS)
    assert [path.name for path in data.iterdir()] == [FILE]
    assert take(data) == METHODS
    assert take(data) == []


def test_nothing_served_leaves_nothing(tmp_path: Path) -> None:
    keep(tmp_path / "data", [])
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [b"", b"[{}]", b"\xff", b'[{"name": 5}]'])
def test_what_cannot_be_read_is_said_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert take(tmp_path) == []
    assert "cannot be read" in caplog.text
    assert not (tmp_path / FILE).exists(), "nor is it tried again"


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").write_text("a file")
    keep(tmp_path / "data", METHODS)
    assert "cannot be kept" in caplog.text
