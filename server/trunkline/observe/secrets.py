"""Keeps secrets out of what is logged, whoever logs it: our own code, a library, a method that prints its settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

MASK: Final = "***"
MIN_CHARS: Final = 6
"""A shorter secret would be found in ordinary words."""

_CREDENTIALS: Final = re.compile(
    r"""(?ix)
    (\bbearer[ ]+)[A-Za-z0-9._~+/=-]{6,}             # an Authorization header
    | (trunkline\.bearer\.)[A-Za-z0-9_-]+            # a subprotocol
    | (base64url\.bearer\.phx\.)[A-Za-z0-9_+/=-]+
    | ([?&][\w.-]*(?:token|key|secret|password)=)[^&\s"']+  # a query
    | (://)[^/?#\s"']+(?=@)                           # the user and password of a URL
    # A JWT, perhaps behind something that ends with a dash. That there are dots is looked at first, once a word.
    | (?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.)
      ([A-Za-z0-9_-]*?)\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*
    """
)


_SECRET_NAMES: Final = re.compile(
    r"(?i)pass(word|wd|phrase|code)|secret|credential|authorization|cookie|(private|api|access)[-_]?key|token$"
)


_SECRET_VARIABLES: Final = re.compile(r"(?i)(key|token|secret|passw(or)?d|passphrase|credentials?|headers)s?$")
_PASSWORD: Final = re.compile(r"://[^/?#\s:@]*:([^/?#\s]+)@")


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The secrets among variables: values whose name tells of one, and the passwords of URLs."""
    named = [value for name, value in environment.items() if _SECRET_VARIABLES.search(name)]
    return named + [found for value in environment.values() for found in _PASSWORD.findall(value)]


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
        """The text, with secrets replaced by ``***``."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return _CREDENTIALS.sub(lambda found: next((g for g in found.groups() if g), "") + MASK, text)


class Redaction:
    """Takes secrets out of JSON values: members whose name tells of a secret, and what the mask finds in texts.

    Args:
        mask: for texts.

    Attributes:
        count: how many values were replaced so far.
    """

    def __init__(self, mask: SecretMask) -> None:
        self._mask = mask
        self.count = 0

    def __call__(self, value: Any) -> Any:
        """The value, with secrets replaced by ``***``.

        Raises:
            RecursionError: the value is nested too deeply.
        """
        if isinstance(value, dict):
            return {name: self._member(name, member) for name, member in value.items()}
        if isinstance(value, list):
            return [self(member) for member in value]
        if isinstance(value, str):
            masked = self._mask(value)
            self.count += masked != value
            return masked
        return value

    def _member(self, name: str, value: Any) -> Any:
        if _SECRET_NAMES.search(name) is None or value is None or isinstance(value, bool):
            return self(value)
        self.count += 1
        return MASK
