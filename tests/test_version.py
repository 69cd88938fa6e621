from __future__ import annotations

import json
import re
from pathlib import Path

from trunkline.version import __version__

ROOT = Path(__file__).resolve().parents[1]


def test_the_javascript_client_has_the_same_version() -> None:
    package = json.loads((ROOT / "clients" / "js" / "package.json").read_text())
    assert package["version"] == __version__


def test_the_changelog_knows_this_version() -> None:
    assert re.search(rf"^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_nothing_names_a_registry_host_or_a_path_of_a_machine() -> None:
    forbidden = re.compile(
        r"https?://(registry\.npmjs|pypi\.org|files\.pythonhosted|deb\.debian)|/root/|/home/\w+/|/work/"
    )
    checked = [
        path
        for pattern in (
            "*.md",
            "*.toml",
            "*.txt",
            "Makefile",
            "server/**/*.py",
            "protocol/**/*.*",
            "clients/package-lock.json",
        )
        for path in ROOT.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert len(checked) > 50
    assert not [path for path in checked if forbidden.search(path.read_text(errors="replace"))]
