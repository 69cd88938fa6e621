"""The endpoints of language models: how each is asked, what it costs, and whether it is tried for now. Pure.

They are tried in the order of the settings. One that fails several times in a row is passed over for a while, which
doubles each time that it fails again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from trunkline import ErrorCode, RpcError

FAILURES: Final = 3
OPEN_SECONDS: Final = 15.0
MAX_OPEN_SECONDS: Final = 300.0
MILLION: Final = 1_000_000
MAX_CAUSE: Final = 300

_SECRET: Final = re.compile(r"(?i)\b(?:sk|pk|key|token)[-_][\w*.-]{6,}|bearer\s+\S+|(?<=//)[^/\s@]+@")


@dataclass(slots=True)
class Endpoint:
    """One endpoint of an OpenAI-compatible server.

    Attributes:
        name: what the result calls it.
        params: members of each request, over those that calls ask for; None takes one out.
        input_price: of a million tokens that it reads, ``output_price`` of those that it writes; in any unit.
        tokens_param: what the limit of tokens is called there: learnt from its refusals.
        refused: members that it has refused, and is not sent any more.
    """

    name: str
    base_url: str
    model: str
    api_key: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    input_price: float = 0.0
    output_price: float = 0.0
    tokens_param: str = "max_tokens"
    refused: set[str] = field(default_factory=set)
    _failures: int = 0
    _open_until: float = 0.0
    _open_seconds: float = OPEN_SECONDS

    @property
    def is_priced(self) -> bool:
        """Whether an answer costs something."""
        return self.input_price > 0 or self.output_price > 0

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """What an answer costs."""
        return (tokens_in * self.input_price + tokens_out * self.output_price) / MILLION

    def request(self, max_tokens: int, temperature: float) -> dict[str, Any]:
        """The members of a request beside messages and model."""
        members: dict[str, Any] = {self.tokens_param: max_tokens, "temperature": temperature}
        members["stream_options"] = {"include_usage": True}
        members |= self.params
        return {name: value for name, value in members.items() if value is not None and name not in self.refused}

    def learn(self, cause: str, asked: Mapping[str, Any]) -> bool:
        """Take note of what a request was refused for; returns whether another one may do.

        Args:
            cause: the words of the endpoint.
            asked: the members of the request.
        """
        is_ours = self.tokens_param in asked and not self.params.keys() & {"max_tokens", "max_completion_tokens"}
        if is_ours and self.tokens_param == "max_tokens" and "max_completion_tokens" in cause:
            self.tokens_param = "max_completion_tokens"
            return True
        for name in ("temperature", "stream_options"):
            if name in asked and name in cause and name not in self.params:
                self.refused.add(name)
                return True
        return False

    def is_open(self, now: float) -> bool:
        """Whether it failed so often that it is not tried."""
        return now < self._open_until

    def succeeded(self) -> None:
        """Count an answer."""
        self._failures, self._open_seconds = 0, OPEN_SECONDS

    def failed(self, now: float) -> None:
        """Count a failure."""
        self._failures += 1
        if self._failures >= FAILURES:
            self._open_until = now + self._open_seconds
            self._open_seconds = min(MAX_OPEN_SECONDS, 2 * self._open_seconds)

    def waits(self, now: float) -> float:
        """Seconds until it is tried again."""
        return max(0.0, self._open_until - now)


def endpoints_of(settings: Mapping[str, Any]) -> list[Endpoint]:
    """The endpoints of a pack's settings, in the order in which they are tried; none without a language model.

    Raises:
        RpcError: 4001, an endpoint without a model.
    """
    given = list(settings.get("llm_endpoints") or ())
    if settings.get("llm_base_url"):
        own = {name: settings.get(f"llm_{name}") for name in ("base_url", "model", "api_key")}
        given.insert(0, own)
    endpoints: list[Endpoint] = []
    for each in given:
        if not each.get("model"):
            words = "TRUNKLINE_LLM_BASE_URL is set: set TRUNKLINE_LLM_MODEL, too"
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, words)
        params = {**(settings.get("llm_params") or {}), **(each.get("params") or {})}
        known = {name: value for name, value in each.items() if value is not None}
        endpoints.append(Endpoint(**known | {"name": _name(each, endpoints), "params": params}))
    return endpoints


def _name(given: Mapping[str, Any], others: Sequence[Endpoint]) -> str:
    """The name of an endpoint; where none is given, its model, numbered where another one has that, too."""
    name: str = given.get("name") or given["model"]
    taken = {each.name for each in others}
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique


def without_secrets(text: str, secrets: Sequence[str]) -> str:
    """The words of an endpoint in one short line, without keys and whatever looks like one."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return _SECRET.sub("***", " ".join(text.split()))[:MAX_CAUSE]
