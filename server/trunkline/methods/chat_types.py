"""What methods that serve a model's name to OpenAI clients take and say: ``@method(..., openai="chat")``."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from trunkline.methods.declaration import MethodOptions, RegistrationError
from trunkline_protocol.catalogue import Parameter
from trunkline_protocol.json_schema import Schema


class ChatMessage(TypedDict):
    """One message of a chat. Messages of the role ``developer`` come as ``system``; the last is the user's."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatUsage(TypedDict):
    """Tokens that a model read and wrote."""

    prompt_tokens: int
    completion_tokens: int


class ChatEnd(TypedDict):
    """What a stream may give ``ctx.set_result``: why the text ends, ``stop`` where nothing is said, and its tokens."""

    finish_reason: NotRequired[Literal["stop", "length", "content_filter"]]
    usage: NotRequired[ChatUsage]


def check_chat(options: MethodOptions, parameters: list[Parameter], said: Schema | None, *, streaming: bool) -> None:
    """Check that a method which is declared as a chat takes messages, and says text.

    Args:
        said: JSON Schema of its chunks, or where it is no stream, of its result.

    Raises:
        RegistrationError: it does not.
    """
    if options.openai is None:
        return
    others = [each.name for each in parameters if each.required and each.name != "messages"]
    if not any(each.name == "messages" for each in parameters) or others:
        words = f", and gives {', '.join(others)} a default" if others else ""
        raise RegistrationError(
            f"{options.name}: openai='chat' is for what takes messages{words}; write messages: list[ChatMessage]"
        )
    if (said or {}).get("type") != "string":
        what = "yields strings; annotate AsyncIterator[str]" if streaming else "returns a string; annotate -> str"
        raise RegistrationError(f"{options.name}: openai='chat' is for what {what}")
