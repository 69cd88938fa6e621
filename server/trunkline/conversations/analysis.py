"""Which questions had no good answer, and what became of all of them, by day. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
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
    days: dict[tuple[str, str], Counter[str]] = {}
    for each in asked:
        turn = each.turn
        day = datetime.fromtimestamp(turn.asked_at / 1000, UTC).date().isoformat()
        days.setdefault((day, each.tenant), Counter()).update(_outcomes(turn))
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
    return Unanswered(questions, [AskedOnDay(day=day, tenant=whose, **days[day, whose]) for day, whose in sorted(days)])


def why_unanswered(turn: Turn) -> Literal["not_found", "failed", "rated_down"] | None:
    """Why a turn has no good answer; None where it has one, or may get one, or nobody waited for it."""
    if turn.status == "failed":
        return "failed"
    if turn.status == "answered" and turn.found is False:
        return "not_found"
    return "rated_down" if turn.rating == "down" else None


def _outcomes(turn: Turn) -> Iterator[str]:
    """The counts of a day that a turn belongs to."""
    yield "questions"
    if turn.status == "answered":
        yield "not_found" if turn.found is False else "answered"
    elif turn.status != "open":
        yield turn.status
    if turn.rating is not None:
        yield f"rated_{turn.rating}"
