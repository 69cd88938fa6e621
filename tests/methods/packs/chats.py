"""Methods that OpenAI clients call as models: as a stream, as a function, and in the ways that go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from trunkline import ChatEnd, ChatMessage, Context, ErrorCode, RpcError, method

cancelled: list[str] = []


@method("chat.echo", openai="chat", result=ChatEnd)
async def echo(messages: list[ChatMessage], ctx: Context, temperature: float = 1.0) -> AsyncIterator[str]:
    """Repeat what was said, word by word."""
    words = [f"{each['role']}:{each['content']}" for each in messages]
    for word in [*words, f"t={temperature}"]:
        yield word + " "
    ctx.set_result({"finish_reason": "length", "usage": {"prompt_tokens": 3, "completion_tokens": len(words)}})


@method("chat.whole", openai="chat")
def whole(messages: list[ChatMessage]) -> str:
    """The last message, in capitals."""
    return messages[-1]["content"].upper()


@method("chat.plain", openai="chat")
def plain(messages: list[ChatMessage]) -> Iterator[str]:
    """Its letters; it says nothing of how it ended."""
    yield from messages[-1]["content"]


@method("chat.slow", openai="chat", timeout_ms=60_000)
async def slow(messages: list[ChatMessage], ctx: Context) -> AsyncIterator[str]:
    """A word, a pause as long as the last message says, another word."""
    try:
        yield "before"
        await asyncio.sleep(float(messages[-1]["content"]))
        yield "behind"
    except asyncio.CancelledError:
        cancelled.append("slow")
        raise


@method("chat.cancelled")
async def how_often() -> int:
    """How often ``chat.slow`` was cancelled."""
    return len(cancelled)


@method("chat.breaks", openai="chat")
async def breaks(messages: list[ChatMessage]) -> AsyncIterator[str]:
    """Fail: at once where it is told so, else behind a word."""
    if messages[-1]["content"] != "at once":
        yield "a word"
    raise RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, "the pipe burst")


@method("chat.empty", openai="chat")
async def empty(messages: list[ChatMessage]) -> AsyncIterator[str]:
    """Say nothing."""
    for each in messages:
        if each["role"] == "assistant":
            yield ""


@method("chat.busy", openai="chat", rate=0.001)
async def busy(messages: list[ChatMessage]) -> str:
    """Answer once in a long while."""
    return "yes"
