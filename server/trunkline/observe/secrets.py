"""Keeps secrets out of what is logged, whoever logs it: our own code, a library, a method that prints its settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

MASK: Final = "***"
MIN_CHARS: Final = 6
"""A shorter secret would be found in ordinary words."""

_CREDENTIALS: Final = re.compile(
    r"""(?ix)
    (\bbearer[ ]+)[A-Za-z0-9._~+/=-]{6,}             # an Authorization header
    | (trunkline\.bearer\.)[A-Za-z0-9_-]+            # a subprotocol
    | (base64url\.bearer\.phx\.)[A-Za-z0-9_+/=-]+
    | ([?&](?:token|access_token|api_key)=)[^&\s"']+  # a query
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*()  # a JWT
    """
)


class SecretMask:
    """Replaces secrets in a text.

    Args:
        secrets: those that this process knows; what looks like a credential is replaced, too.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= MIN_CHARS}
        known |= {json.dumps(secret)[1:-1] for secret in known}  # as it looks inside of JSON
        longest_first = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None

    def __call__(self, text: str) -> str:
        """The text without them."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return _CREDENTIALS.sub(lambda found: next((g for g in found.groups() if g), "") + MASK, text)
