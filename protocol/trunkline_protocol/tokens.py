"""What a call used of a language model, as its executor tells the hub."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Tokens = Annotated[int, Meta(ge=0, le=2**48)]


class TokensUsed(msgspec.Struct, frozen=True, array_like=True):
    """Tokens of one request to a language model: both 0 and ``told`` false where its endpoint did not say."""

    prompt: Tokens
    completion: Tokens
    told: bool = True
