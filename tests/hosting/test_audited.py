"""What a reload changed is in the audit log, by name, and no secret of the files is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trunkline.edge.access.tokens import new_token
from trunkline.hosting.audited import credentials_in, reloaded
from trunkline.observe.audit import AuditLog

KEPT, MOVED, GONE, NEW = (new_token()[1] for _ in range(4))
BEFORE = f"""
[roles.reader]
methods = ["rag.*"]
[[tokens]]
name = "kept"
sha256 = "{KEPT}"
[[tokens]]
name = "moved"
sha256 = "{MOVED}"
[[tokens]]
name = "gone"
sha256 = "{GONE}"
tenant = "acme"
"""
AFTER = f"""
[roles.reader]
methods = ["rag.*", "vectors.*"]
[[tokens]]
name = "kept"
sha256 = "{KEPT}"
[[tokens]]
name = "moved"
sha256 = "{MOVED}"
roles = ["reader"]
[[tokens]]
name = "gone"
sha256 = "{NEW}"
tenant = "acme"
"""


def test_each_token_and_role_that_is_another_has_a_line(tmp_path: Path) -> None:
    file, path = tmp_path / "tokens.toml", tmp_path / "audit.jsonl"
    file.write_text(BEFORE)
    before = credentials_in(file)
    file.write_text(AFTER)
    log = AuditLog(path)
    reloaded(log, before, credentials_in(file), settings="log_level", revoked_connections=2)
    log.close()
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    said = [(line["change"], line["of"], line["name"], line.get("token_sha256")) for line in lines[:-1]]
    assert said == [
        ("changed", "token", "moved", MOVED[:16]),
        ("removed", "token", "gone", GONE[:16]),
        ("changed", "role", "reader", None),
        ("added", "token", "gone", NEW[:16]),
    ]
    assert [line.get("tenant") for line in lines[:-1]] == ["default", "acme", None, "acme"]
    last = {name: value for name, value in lines[-1].items() if name != "time"}
    assert last == {"event": "reload", "by": "SIGHUP", "settings": "log_level", "revoked_connections": 2}
    assert MOVED not in path.read_text()


@pytest.mark.parametrize("text", ["", "[[tokens", "tokens = 3", "[[tokens]]\nname = 1", "roles = []"])
def test_a_file_that_cannot_be_used_has_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    assert credentials_in(file) == {}
    assert credentials_in(file.with_name("none")) == {}
    assert credentials_in(None) == {}
