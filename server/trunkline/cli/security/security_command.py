"""Prints what ``trunkline doctor --security`` has found, and ends with the exit code of the worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import typer

from trunkline.cli.security.facts import gather
from trunkline.cli.security.findings import RULES, Finding, Severity, judge
from trunkline.cli.settings import read_settings
from trunkline.cli.talk import print_json

EXIT_CODES: Final[dict[Severity, int]] = {"low": 0, "medium": 4, "high": 5}
"""By the worst finding. 1, 2 and 3 are those of all commands."""


def review(config: Path | None, *, raw: bool) -> None:
    """Print the findings of the settings here; exits with the code of the worst.

    Args:
        config: the TOML file with settings.
        raw: as one JSON object.
    """
    settings = read_settings(config)
    findings = judge(settings, gather(settings))
    if raw:
        print_json({"rules": len(RULES), "findings": [asdict(finding) for finding in findings]})
    else:
        from trunkline.cli.show.tables import print_findings

        print_findings([(each.severity, _lines(each)) for each in findings], _summary(findings))
    worst = max((EXIT_CODES[finding.severity] for finding in findings), default=0)
    if worst:
        raise typer.Exit(worst)


def _lines(finding: Finding) -> list[str]:
    return [f"{finding.code}: {finding.what}", f"why: {finding.why}", f"do:  {finding.remedy}"]


def _summary(findings: Sequence[Finding]) -> str:
    counts = ", ".join(f"{sum(each.severity == level for each in findings)} {level}" for level in EXIT_CODES)
    return f"{len(RULES)} rules, for the settings of this shell: {counts}"
