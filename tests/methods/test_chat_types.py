"""What a method with ``openai="chat"`` has to take and say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import pytest

from tests.methods.packs import chats
from trunkline.methods.chat_types import ChatMessage
from trunkline.methods.context import Context
from trunkline.methods.declaration import RegistrationError, method
from trunkline.methods.registry import Registry

Messages = list[ChatMessage]


def no_messages(text: str) -> str:
    return text


def more_than_messages(messages: Messages, colour: str) -> str:
    return colour


def no_text(messages: Messages) -> dict[str, Any]:
    return {}


def anything(messages: Messages) -> Any:
    return messages


async def numbers(messages: Messages, ctx: Context) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (no_messages, "takes messages, and gives text a default"),
        (more_than_messages, "takes messages, and gives colour a default"),
        (no_text, "returns a string"),
        (anything, "returns a string"),
        (numbers, "yields strings"),
    ],
)
def test_what_is_no_chat_is_refused_when_it_is_loaded(function: Callable[..., Any], says: str) -> None:
    module = ModuleType("talking")
    vars(module)[function.__name__] = method("talking.one", openai="chat")(function)
    with pytest.raises(RegistrationError, match=says):
        Registry().add_module(module)


def test_there_is_no_other_kind() -> None:
    with pytest.raises(RegistrationError, match="'speech' is not 'chat'"):
        method("talking.one", openai="speech")  # type: ignore[arg-type]


def test_the_catalogue_says_so() -> None:
    registry = Registry()
    registry.add_module(chats)
    told = {info.name: info.openai for info in registry.catalogue().methods}
    assert (told["chat.echo"], told["chat.cancelled"]) == ("chat", None)
