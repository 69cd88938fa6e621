"""Counts the tokens that requests to language models take, as their endpoints tell them."""

from __future__ import annotations

from typing import Final

from trunkline import Context
from trunkline.methods.figures import counter

TOKENS: Final = counter("trunkline_llm_tokens", "Tokens of language models, as their endpoints told", labels=("kind",))
UNTOLD: Final = counter("trunkline_llm_untold_requests", "Requests to language models whose tokens were not told")


def count_tokens(ctx: Context, prompt: int, completion: int, *, told: bool) -> None:
    """Count a request for the tenant of the call, and for all; estimates, which were not told, are no tokens."""
    if told:
        TOKENS.add(prompt, "prompt")
        TOKENS.add(completion, "completion")
        ctx.count_tokens(prompt, completion)
    else:
        UNTOLD.add()
        ctx.count_tokens(0, 0, told=False)
