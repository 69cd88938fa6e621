"""Counts the tokens that requests to a language model take, as its OpenAI-compatible endpoint tells them.

A streamed answer has its ``usage`` in a last chunk, where the request asks for it (``stream_options.include_usage``).
An endpoint that refuses that is asked without, from then on, and its requests are counted as ones it did not tell of.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakSet

from trunkline import Context
from trunkline.methods.figures import counter

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionChunk

TOKENS: Final = counter("trunkline_llm_tokens", "Tokens of language models, as their endpoints told", labels=("kind",))
UNTOLD: Final = counter("trunkline_llm_untold_requests", "Requests to language models whose tokens were not told")
REFUSED: Final = (400, 422)
"""How endpoints answer a request with a member that they do not know."""

_without_options: WeakSet[AsyncOpenAI] = WeakSet()


def counted(client: AsyncOpenAI, ctx: Context) -> Callable[..., Awaitable[CountedAnswer]]:
    """As ``client.chat.completions.create`` with ``stream=True``, but the tokens count for the call of ``ctx``."""

    async def create(**request: Any) -> CountedAnswer:
        from openai import APIStatusError

        create = client.chat.completions.create
        if client not in _without_options:
            try:
                return CountedAnswer(await create(**request, stream_options={"include_usage": True}), ctx)
            except APIStatusError as error:
                if error.status_code not in REFUSED:
                    raise
        answer = CountedAnswer(await create(**request), ctx)
        _without_options.add(client)  # it takes the request without them: they were what it refused
        return answer

    return create


class CountedAnswer:
    """A streamed answer, whose tokens are counted when it ends, however it does.

    Args:
        stream: of the client, ``openai.AsyncStream``.
    """

    def __init__(self, stream: Any, ctx: Context) -> None:
        self._stream = stream
        self._ctx = ctx
        self._prompt = self._completion = 0
        self._told = False

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count()
        await self._stream.__aexit__(kind, error, trace)

    async def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        async for event in self._stream:
            if event.usage is not None:  # of some endpoints in each chunk, of all the tokens so far
                self._prompt, self._completion = event.usage.prompt_tokens, event.usage.completion_tokens
                self._told = True
            yield event

    def _count(self) -> None:
        if self._told:
            TOKENS.add(self._prompt, "prompt")
            TOKENS.add(self._completion, "completion")
            self._ctx.count_tokens(self._prompt, self._completion)
        else:
            UNTOLD.add()
            self._ctx.count_tokens(0, 0, told=False)
