"""Writes the tables of hub methods and of errors where other languages and readers need them.

Of ``trunkline_protocol/hub_methods.py``: the tables in ``protocol/SPEC.md``, between the markers; and
``protocol/conformance/methods.json``, which the tests of the JavaScript client read. Of
``trunkline_protocol/errors.py``: ``protocol/conformance/errors.json``, and the codes of the JavaScript client. Of the
reports: their types for the dashboard. ``tests/protocol/test_hub_methods.py`` and ``test_errors.py`` hold them equal.

    python -m scripts.write_tables
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from scripts.sources import ROOT
from trunkline.generate.schema import SchemaReader
from trunkline.generate.typescript import render
from trunkline_protocol import health_reports, reports
from trunkline_protocol.errors import ERROR_TABLE
from trunkline_protocol.hub_methods import METHODS, NAMESPACES, NOTIFICATIONS, HubMethod, HubNotification

PROTOCOL: Final = ROOT / "protocol"
SPEC: Final = PROTOCOL / "SPEC.md"
SHARED: Final = PROTOCOL / "conformance" / "methods.json"
ERRORS: Final = PROTOCOL / "conformance" / "errors.json"
CODES: Final = ROOT / "clients" / "js" / "src" / "codes.ts"
REPORTS: Final = ROOT / "clients" / "dashboard" / "src" / "hub" / "said.ts"
BEGIN: Final = "<!-- hub methods: written by scripts/write_tables.py -->"
END: Final = "<!-- end of hub methods -->"

RIGHTS: Final = {
    "anybody": "anybody",
    "granted": "",
    "subscribe": "topics",
    "publish": "topics",
    "callee": "role `callee`",
    "admin": "role `admin`",
}


def tables() -> str:
    """The part of SPEC.md between the markers."""
    spaces = [f"`{space}`" for space in NAMESPACES]
    return "\n".join(
        [
            "| method | who may | connection | batch | session | idempotent |",
            "|---|---|---|---|---|---|",
            *map(_method, METHODS.values()),
            "",
            "| notification | from the client | from the hub | session |",
            "|---|---|---|---|",
            *map(_notification, NOTIFICATIONS.values()),
            "",
            f"**Reserved**: these names, and all that begin with {', '.join(spaces[:-1])} or {spaces[-1]}.",
        ]
    )


def _method(row: HubMethod[Any, Any]) -> str:
    cells = [
        f"`{row.name}`",
        RIGHTS[row.right] + (", before `auth` too" if row.before_auth else ""),
        "needed" if row.needs_connection else "",
        "" if row.in_batch else "no",
        "" if row.numbered else "unnumbered",
        "yes" if row.idempotent else "no",
    ]
    return _line(cells)


def _notification(row: HubNotification) -> str:
    sides = {"caller": "of its call", "callee": "of a call it serves", "peer": "yes"}
    cells = [
        f"`{row.name}`",
        "" if row.from_client is None else sides[row.from_client],
        "yes" if row.from_hub else "",
        "" if row.numbered else "unnumbered",
    ]
    return _line(cells)


def _line(cells: Iterable[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def shared() -> str:
    """The text of methods.json."""
    lists = {
        "methods": list(METHODS),
        "unnumbered_methods": [row.name for row in METHODS.values() if not row.numbered],
        "notifications_from_hub": [row.name for row in NOTIFICATIONS.values() if row.from_hub],
        "notifications_from_client": [row.name for row in NOTIFICATIONS.values() if row.from_client is not None],
    }
    return json.dumps(lists, indent=2) + "\n"


def specification(text: str) -> str:
    """SPEC.md with the tables as they are now.

    Raises:
        ValueError: it has no place for them.
    """
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"SPEC.md has to have the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def errors() -> str:
    """The text of errors.json: the rows of the error table, one a line."""
    rows = (json.dumps(msgspec.to_builtins(row)) for row in ERROR_TABLE.values())
    return "[\n  " + ",\n  ".join(rows) + "\n]\n"


def codes(text: str) -> str:
    """codes.ts with the codes as they are now.

    Raises:
        ValueError: it has no place for them.
    """
    rows = "".join(f"  {row.name}: {row.code},\n" for row in ERROR_TABLE.values())
    written, places = re.subn(r"(ERROR_CODES = \{\n).*?(\} as const;)", rf"\g<1>{rows}\g<2>", text, flags=re.DOTALL)
    if places != 1:
        raise ValueError(f"{CODES} has to have ERROR_CODES = {{...}} as const")
    return written


SAID: Final = (health_reports.DetailedHealth, health_reports.Serving, reports.ExecutorsReport, reports.RequestsReport,
               reports.ConnectionsReport, reports.HubMetrics, reports.LogsReport, reports.Metrics, reports.CallList,
               reports.TopicList, reports.Failure)  # fmt: skip
"""What the dashboard is told."""

SAID_HEAD: Final = """\
/**
 * What the hub says of itself. Written by scripts/write_tables.py from the types of its reports.
 */
/* oxlint-disable */"""


def report_types() -> str:
    """The text of said.ts: the types of the reports that the dashboard reads."""
    _, schemas = msgspec.json.schema_components(SAID, ref_template="#/schemas/{name}")
    reader = SchemaReader({"schemas": schemas}, ())
    for name in schemas:
        reader.read({"$ref": f"#/schemas/{name}"})
    types = [f"export type {name} = {render(found.type)};\n" for name, found in reader.definitions().items()]
    return "\n".join([SAID_HEAD, *types])


def main() -> None:
    """Write all of them."""
    REPORTS.write_text(report_types())
    ERRORS.write_text(errors())
    CODES.write_text(codes(CODES.read_text()))
    SPEC.write_text(specification(SPEC.read_text()))
    SHARED.write_text(shared())


if __name__ == "__main__":
    main()
