"""The Grafana dashboard, the alert rules and the operator's handbook speak of what ``/metrics`` really has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.hub import RunningHub
from trunkline.config import Settings
from trunkline.observe.tenant_calls import READINGS
from trunkline_protocol.errors import ErrorCode

ROOT: Final = Path(__file__).parents[2]
DASHBOARD: Final = ROOT / "examples/grafana/trunkline.json"
RULES: Final = ROOT / "examples/prometheus/trunkline.rules.yml"
SCRAPE: Final = ROOT / "examples/prometheus/prometheus.yml"
HANDBOOK: Final = ROOT / "docs/operations.md"

STATUSES: Final = ("trunkline_health", "trunkline_jobs")
SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
LABELS: Final = {
    "method",
    "outcome",
    "state",
    "cause",
    "executor",
    "transport",
    "reason",
    "status",
    "le",
    "instance",
    "job",
}


@pytest.fixture(scope="module")
def families(debug_hub: RunningHub) -> dict[str, Any]:
    page = debug_hub.get("/metrics").body.decode()
    return {family.name: family for family in text_string_to_metric_families(page)}


@pytest.fixture(scope="module")
def known(families: dict[str, Any]) -> set[str]:
    """The names that samples have, or would have."""
    names = {name + suffix for name, family in families.items() for suffix in SUFFIXES[family.type]}
    assert "trunkline_calls_total" in names
    return names


def expressions(found: Any) -> list[str]:
    """Every PromQL expression of a document."""
    if isinstance(found, dict):
        own = [found[key] for key in ("expr", "query", "definition") if isinstance(found.get(key), str)]
        return own + [each for value in found.values() for each in expressions(value)]
    return [each for value in found for each in expressions(value)] if isinstance(found, list) else []


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def require_sound(expression: str, known: set[str]) -> None:
    names = set(re.findall(r"\btrunkline_\w+", expression))
    assert names <= known, f"no such metric in {expression!r}"
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing), expression
    matchers = [
        label for inside in re.findall(r"{([^}]*)}", expression) for label in re.findall(r"(\w+)(?:!?=|=~)", inside)
    ]
    groups = [
        each.strip() for inside in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for each in inside.split(",")
    ]
    assert {*matchers, *groups} <= LABELS, expression


def test_the_dashboard(known: set[str]) -> None:
    found = [each for each in expressions(dashboard()) if "trunkline_" in each]
    assert len(found) > 30
    for expression in found:
        require_sound(expression, known)
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells)), "panels lie on each other"


WITH_TLS = "trunkline_tls_certificate_end_time_seconds"
WITH_TENANTS: Final = {f"trunkline_tenant_{name}_total" for name, _, _ in READINGS}
"""What only a hub with a certificate has: tests/edge/test_tls.py."""


def test_the_alert_rules(known: set[str]) -> None:
    assert rules()
    for rule in rules():
        require_sound(rule["expr"], known)
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"]
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))


def test_what_alerts_look_for_can_be(families: dict[str, Any]) -> None:
    """The values of labels that expressions name exist: a typo would never fire."""
    outcomes = {"ok", "APPLICATION_ERROR", *(code.name for code in ErrorCode)}
    states = {sample.labels["state"] for sample in families["trunkline_executors"].samples}
    reasons = {"closed", "expired", "evicted", "overflow", "violation", "unresumable", "revoked"}
    statuses = {sample.labels["status"] for name in STATUSES for sample in families[name].samples}
    allowed = {"outcome": outcomes, "state": states, "reason": reasons, "status": statuses}
    for expression in [*expressions(dashboard()), *(rule["expr"] for rule in rules())]:
        for label, pattern in re.findall(r'(outcome|state|reason|status)!?=~?"([^"]*)"', expression):
            for part in pattern.split("|"):
                assert any(re.fullmatch(part, value) for value in allowed[label]), f"{label}={part} in {expression}"


def test_the_scrape_configuration() -> None:
    document = yaml.safe_load(SCRAPE.read_text())
    assert document["rule_files"] == [RULES.name]
    assert document["scrape_configs"][0]["job_name"] == "trunkline", "which an alert rule looks for"


def test_the_handbook_has_every_alert_error_and_metric(families: dict[str, Any]) -> None:
    text = HANDBOOK.read_text()
    headings = set(re.findall(r"^### (\w+)$", text, re.MULTILINE))
    assert headings == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    for code in ErrorCode:
        assert f"- **{code.name} {int(code)}**:" in text
    known = {name + suffix for name, family in families.items() for suffix in (*SUFFIXES[family.type], "")}
    assert set(re.findall(r"\btrunkline_\w+", text)) <= known | {WITH_TLS} | WITH_TENANTS
    for name, family in families.items():
        assert name + (SUFFIXES[family.type][0] if family.type == "counter" else "") in text, name


def test_the_handbook_names_settings_that_exist() -> None:
    settings = {f"TRUNKLINE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"TRUNKLINE_[A-Z_]+", HANDBOOK.read_text())) <= settings
