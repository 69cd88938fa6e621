"""What the command line shows: streams as they come, methods as a table, checks as a list."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trunkline.doctor import Check

_SYMBOLS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[red]failed[/]"}


class StreamPrinter:
    """Prints chunks as they come: partial answers as running text, other chunks as one line each."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(stderr=True, highlight=False)

    def chunk(self, chunk_type: str, data: Any, index: int) -> None:
        """One chunk."""
        if self._as_json:
            self._line({"chunk_type": chunk_type, "index": index, "data": data})
        elif chunk_type == "partial_answer":
            sys.stdout.write(data["text"] if isinstance(data, dict) and "text" in data else str(data))
            sys.stdout.flush()
        elif chunk_type == "document" and isinstance(data, dict):
            self._console.print(
                f"[dim]\\[{data.get('rank', index)}] {escape(str(data.get('id', '')))}  {data.get('score', 0):.3f}[/]"
            )
        elif chunk_type == "metadata":
            self._console.print(f"[dim]{escape(json.dumps(data, ensure_ascii=False))}[/]")
        else:
            self._line(data)

    def result(self, result: Any) -> None:
        """The summary that follows the last chunk."""
        if self._as_json:
            self._line({"result": result})
            return
        sys.stdout.write("\n")
        performance = result.get("performance") if isinstance(result, dict) else None
        if performance:
            self._console.print(f"[dim]{performance['total_time_ms']:.0f} ms[/]")

    @staticmethod
    def _line(value: Any) -> None:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def print_methods(document: dict[str, Any]) -> None:
    """An OpenRPC document as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("METHOD", "PARAMS", "", "SUMMARY"):
        table.add_column(heading, overflow="fold")
    for method in document["methods"]:
        extension = method.get("x-trunkline", {})
        params = ", ".join(p["name"] if p.get("required") else f"{p['name']}?" for p in method["params"])
        table.add_row(
            method["name"],
            params,
            "stream" if extension.get("streaming") else "",
            escape(method.get("summary", "")),
        )
    Console(highlight=False).print(table)


def print_checks(checks: list[Check]) -> None:
    """What the doctor found."""
    console = Console(highlight=False)
    for check in checks:
        console.print(f"{_SYMBOLS[check.state]:<22} {check.name}: {escape(check.detail)}")
