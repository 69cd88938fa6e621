"""The limits of conversations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trunkline import defaults


class ConversationSettings(Protocol):
    """The settings of the hub that concern conversations."""

    conversations_per_principal: int
    conversation_turns: int
    conversation_bytes: int
    conversations_kept_seconds: float


@dataclass(frozen=True, slots=True)
class ConversationLimits:
    """The settings of similar names.

    Attributes:
        per_principal: conversations of one.
        turns: of one conversation.
        bytes: of the turns of one.
        kept_seconds: since something was asked in one.
    """

    per_principal: int = defaults.CONVERSATIONS_PER_PRINCIPAL
    turns: int = defaults.CONVERSATION_TURNS
    bytes: int = defaults.CONVERSATION_BYTES
    kept_seconds: float = defaults.CONVERSATIONS_KEPT_SECONDS

    @classmethod
    def of(cls, settings: ConversationSettings) -> ConversationLimits:
        """The limits that the settings give."""
        return cls(
            settings.conversations_per_principal,
            settings.conversation_turns,
            settings.conversation_bytes,
            settings.conversations_kept_seconds,
        )
