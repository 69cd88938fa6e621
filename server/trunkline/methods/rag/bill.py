"""What one call took of language models: its answer, and what was asked before it, such as a follow-up rewritten."""

from __future__ import annotations

from typing import Any

from trunkline.methods.rag.signatures import TokenUsage


class Bill:
    """The tokens and the cost of the requests of one call so far."""

    def __init__(self) -> None:
        self._prompt = self._completion = 0
        self._is_told = True
        self._cost: float | None = None

    def add(self, prompt: int, completion: int, cost: float | None, *, told: bool) -> dict[str, Any]:
        """Add a request.

        Args:
            cost: None where it has no price.
            told: whether the endpoint told the tokens; they are estimates otherwise.

        Returns:
            ``usage``, and ``cost`` where there is one, of all requests: members of an answer's metadata.
        """
        self._prompt += prompt
        self._completion += completion
        self._is_told &= told
        usage: TokenUsage = {"prompt_tokens": self._prompt, "completion_tokens": self._completion}
        members: dict[str, Any] = {"usage": usage if self._is_told else {**usage, "estimated": True}}
        if cost is not None:
            self._cost = (self._cost or 0.0) + cost
        return members if self._cost is None else members | {"cost": round(self._cost, 9)}
