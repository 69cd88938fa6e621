"""Which questions had no good answer, and what became of all of them, by day. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from trunkline.conversations.store import Asked
from trunkline_protocol.conversation_messages import AskedOnDay, Turn, Unanswered, UnansweredQuestion


def unanswered(asked: Sequence[Asked], limit: int) -> Unanswered:
    """The questions without a good answer, and the counts.

    Args:
        asked: the turns, the latest first.
        limit: of the questions that are listed; all are counted.
    """
    questions: list[UnansweredQuestion] = []
    days: dict[tuple[str, str], AskedOnDay] = {}
    for each in asked:
        turn = each.turn
        day = datetime.fromtimestamp(turn.asked_at / 1000, UTC).date().isoformat()
        _count(days.setdefault((day, each.tenant), AskedOnDay(day=day, tenant=each.tenant)), turn)
        if (why := why_unanswered(turn)) is not None and len(questions) < limit:
            questions.append(
                UnansweredQuestion(
                    conversation_id=each.conversation,
                    turn=turn.turn,
                    question=turn.question,
                    asked_at=turn.asked_at,
                    why=why,
                    tenant=each.tenant,
                    principal=each.principal,
                )
            )
    return Unanswered(questions, [days[key] for key in sorted(days)])


def why_unanswered(turn: Turn) -> Literal["not_found", "failed", "rated_down"] | None:
    """Why a turn has no good answer; None where it has one, or may get one, or nobody waited for it."""
    if turn.status == "failed":
        return "failed"
    if turn.status == "answered" and turn.found is False:
        return "not_found"
    return "rated_down" if turn.rating == "down" else None


def _count(day: AskedOnDay, turn: Turn) -> None:
    day.questions += 1
    day.answered += turn.status == "answered" and turn.found is not False
    day.not_found += turn.status == "answered" and turn.found is False
    day.failed += turn.status == "failed"
    day.cancelled += turn.status == "cancelled"
    day.rated_up += turn.rating == "up"
    day.rated_down += turn.rating == "down"
