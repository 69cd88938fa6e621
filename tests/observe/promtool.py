"""Prometheus' own judgement of alert rules, over what ``/metrics`` of real hubs said before a fault and during it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "examples/prometheus/trunkline.rules.yml"
EXTRACTED: Final = ROOT / "build/prometheus/usr/bin/promtool"
"""Where ``make deps-debian`` puts the program, without the server that its package would start."""

STEP_SECONDS: Final = 15
STEPS_BEFORE: Final = 8
STEPS_DURING: Final = 60

GROWING: Final = re.compile(r"_(total|bucket|count|sum)$")
Page = Mapping[str, float]
"""The samples of one scrape, by name and labels."""


def promtool() -> str:
    """The program's path; skips (or fails, in CI) where there is none."""
    found = shutil.which("promtool") or (str(EXTRACTED) if EXTRACTED.exists() else None)
    if found is None:
        reason = "no promtool: make deps-debian fetches it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def page_of(text: str, **changed: float) -> Page:
    """A scrape; ``changed``: what a fault that needs root would make of some metrics."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = "".join(f',{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f'{sample.name}{{instance="here",job="trunkline"{labels}}}'] = changed.get(sample.name, sample.value)
    return found | {'up{instance="here",job="trunkline"}': 1.0}


def goes_on(before: Page, during: Page) -> list[Page]:
    """Scrapes of two minutes as before, and then of fifteen, in which gauges stay and counters grow at each as once."""
    pages = [before] * STEPS_BEFORE
    for step in range(1, STEPS_DURING + 1):
        pages.append(
            {
                key: before.get(key, 0.0) + step * (value - before.get(key, 0.0))
                if GROWING.search(key.partition("{")[0])
                else value
                for key, value in during.items()
            }
        )
    return pages


def require_firing(folder: Path, pages: Sequence[Page], alerts: set[str], among: str = ".*") -> None:
    """Require that of the alerts that match ``among`` these fire, and no others, after the last scrape."""
    keys = sorted({key for page in pages for key in page})
    values = {key: " ".join(f"{page[key]:.17g}" if key in page else "_" for page in pages) for key in keys}
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(alerts)]
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{STEP_SECONDS}s",
        "tests": [
            {
                "interval": f"{STEP_SECONDS}s",
                "input_series": [{"series": key, "values": values[key]} for key in keys],
                "promql_expr_test": [
                    {
                        "expr": f'group by (alertname) (ALERTS{{alertstate="firing",alertname=~"{among}"}})',
                        "eval_time": f"{STEP_SECONDS * (len(pages) - 1)}s",
                        "exp_samples": expected,
                    }
                ],
            }
        ],
    }
    file = folder / "alerts.test.yml"
    file.write_text(yaml.safe_dump(document, sort_keys=False, width=10**6))
    done = subprocess.run([promtool(), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
