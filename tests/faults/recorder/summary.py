"""What happened in a run, for people."""

from __future__ import annotations

from collections import Counter

from tests.faults.recorder.history import TERMINAL
from tests.faults.recorder.nemesis import CUTS, EXECUTOR_KILLS, HUB_ENDS, MISDEEDS
from tests.faults.recorder.operations import Record


def faults(record: Record) -> Counter[str]:
    """How often what broke."""
    return Counter(each.invoke.method or "" for each in record.sound("fault"))


def outcomes(record: Record) -> dict[str, Counter[str]]:
    """How operations of each sort ended."""
    found: dict[str, Counter[str]] = {}
    for each in record.operations.values():
        if each.invokes and each.invoke.what != "fault":
            what = f"keyed {each.invoke.what}" if each.invoke.key else str(each.invoke.what)
            found.setdefault(what, Counter())[each.end.kind if each.ends else "open"] += 1
    return found


def described(record: Record) -> str:
    """Operations by sort and outcome, faults, sessions."""
    rows = [f"{'':<16}" + "".join(f"{kind:>8}" for kind in (*sorted(TERMINAL), "open"))]
    for what, counts in sorted(outcomes(record).items()):
        rows.append(f"{what:<16}" + "".join(f"{counts[kind]:>8}" for kind in (*sorted(TERMINAL), "open")))
    broken = faults(record)
    cuts = sum(broken[kind] for kind in (*CUTS, "refuse"))
    others = sum(broken[kind] for kind in ("stall", "delay", "split"))
    kills = sum(broken[kind] for kind in EXECUTOR_KILLS)
    ends = ", ".join(f"{kind} {broken[kind]}" for kind in HUB_ENDS)
    resumed = Counter(line.resumed for line in record.states if line.resumed is not None)
    events = Counter(line.kind for line in record.lines)
    rows += [
        f"executions {len(record.ledger)}, of them again {len(record.ledger) - len(record.executions)}",
        f"events {events['event']}, gaps {events['gap']}",
        f"cuts {cuts}, stalls and the like {others}, executor kills {kills}, {ends}",
        "methods: " + ", ".join(f"{kind} {broken[kind]}" for kind in MISDEEDS),
        f"sessions resumed {resumed[True]}, not resumed {resumed[False]}",
    ]
    return "\n".join(rows)
