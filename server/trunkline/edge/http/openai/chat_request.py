"""A chat completion as it is asked for, checked: what would change the answer and is not served is refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from trunkline.edge.http.openai.errors import bad_request
from trunkline_protocol.catalogue import MethodInfo

OWN: Final = frozenset({"model", "messages", "stream", "stream_options", "trunkline"})
"""Members that are read here."""

TOLD: Final = ("temperature", "max_tokens", "max_completion_tokens")
"""Members that a model may be without: the answer names those that had no effect."""

WITHOUT_EFFECT: Final = frozenset(
    {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"}
)
"""Members that change no answer anywhere."""

NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "seed": (),
    "service_tier": ("auto", "default"),
    "stop": ([], ""),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "top_p": (1,),
    "verbosity": (),
    "web_search_options": (),
}
"""Members that are not served, and the values, beside null, with which they mean nothing."""

NEVER: Final = frozenset({"n", "tools", "tool_choice", "functions", "function_call", "audio", "modalities"})
"""Of these, what no model can serve: the answer is one text."""

ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
MESSAGE: Final = frozenset({"role", "content", "name"})
MAX_NAMED: Final = 80


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request.

    Attributes:
        messages: ``{role, content}`` each; the last is the user's.
        members: all of it.
        more: its member ``trunkline``: further params of ``rag.*``.
    """

    model: str
    messages: list[dict[str, str]]
    stream: bool
    include_usage: bool
    members: dict[str, Any]
    more: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChatCall:
    """The call of a method that answers a request.

    Attributes:
        ignored: what of the request has no effect on it.
        is_rag: it is ``rag.*``, whose results say which generator has answered.
        unwritten: what has no effect, too, where no language model has written the answer.
    """

    method: str
    params: dict[str, Any]
    ignored: list[str]
    is_rag: bool
    unwritten: list[str] = field(default_factory=list)


def read_chat(body: bytes) -> ChatRequest:
    """The request in a body.

    Raises:
        Refused: 400, it is none; the parameter is named.
    """
    members = members_of(body)
    model = members.get("model")
    if not isinstance(model, str) or not model:
        raise bad_request("model", "has to name a model; GET /v1/models lists them")
    stream, options = members.get("stream"), members.get("stream_options")
    if not (stream is None or isinstance(stream, bool)):
        raise bad_request("stream", "has to be true or false")
    more = members.get("trunkline")
    if not (more is None or isinstance(more, dict)):
        raise bad_request("trunkline", "has to be an object: further params of rag.execute")
    return ChatRequest(
        model,
        _messages(members.get("messages")),
        bool(stream),
        _include_usage(options, bool(stream)),
        {name: value for name, value in members.items() if value is not None},
        more or {},
    )


def members_of(body: bytes) -> dict[str, Any]:
    """The members of a body that is a JSON object.

    Raises:
        Refused: 400.
    """
    try:
        members = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request("body", f"is not valid JSON: {error}") from None
    if not isinstance(members, dict):
        raise bad_request("body", "has to be a JSON object")
    return members


def _include_usage(options: Any, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise bad_request("stream_options", "is for streams only: set stream to true")
    if not isinstance(options, dict):
        raise bad_request("stream_options", "has to be an object")
    for name, value in options.items():
        if name not in ("include_usage", "include_obfuscation") or not (value is None or isinstance(value, bool)):
            raise bad_request(f"stream_options.{name:.{MAX_NAMED}}", "is not served")
    if options.get("include_obfuscation"):
        raise bad_request("stream_options.include_obfuscation", "is not served")
    return bool(options.get("include_usage"))


# --- messages ---


def _messages(given: Any) -> list[dict[str, str]]:
    if not isinstance(given, list) or not given:
        raise bad_request("messages", "has to be a list of messages, at least one")
    messages = [_message(each, f"messages[{index}]") for index, each in enumerate(given)]
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise bad_request(f"messages[{len(messages) - 1}]", "the last message has to be one of the user, with a text")
    return messages


def _message(given: Any, where: str) -> dict[str, str]:
    if not isinstance(given, dict):
        raise bad_request(where, "has to be an object with role and content")
    role = given.get("role")
    if not isinstance(role, str) or role not in ROLES:
        served = ", ".join(ROLES)
        raise bad_request(f"{where}.role", f"{role!r:.{MAX_NAMED}} is not served: there are no tools; {served} are")
    for name, value in given.items():
        if name not in MESSAGE and value not in (None, [], {}):
            raise bad_request(f"{where}.{name:.{MAX_NAMED}}", "is not served: a message is a text")
    return {"role": ROLES[role], "content": _text(given.get("content"), f"{where}.content", role)}


def _text(content: Any, where: str, role: str) -> str:
    if isinstance(content, str):
        return content
    if content is None and role == "assistant":
        return ""
    if not isinstance(content, list) or not content:
        raise bad_request(where, "has to be a text, or a list of parts of it")
    return "\n".join(_part(part, f"{where}[{index}]") for index, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind != "text":
        raise bad_request(where, f"parts of type {kind!r:.{MAX_NAMED}} are not served: only text is")
    if not isinstance(text := part.get("text"), str):
        raise bad_request(f"{where}.text", "has to be a text")
    return text


# --- what answers it ---


def call_of_method(request: ChatRequest, info: MethodInfo) -> ChatCall:
    """The call of a method that is declared as a chat: it gets what it has parameters for.

    Raises:
        Refused: 400, the request has what it does not take.
    """
    if request.more:
        raise bad_request("trunkline", f"is for models that are collections or pipelines, not for {request.model}")
    names = {each.name for each in info.parameters} - NEVER - OWN
    given = request.members
    params = {"messages": request.messages} | {name: given[name] for name in names if name in given}
    if "max_completion_tokens" in given and "max_tokens" in names:
        params["max_tokens"] = given["max_completion_tokens"]
        names |= {"max_completion_tokens"}
    _require_served(request, names)
    ignored: list[str] = [name for name in TOLD if name in given and name not in names]
    return ChatCall(info.name, params, ignored + _names(request), is_rag=False)


def call_of_rag(request: ChatRequest, *, is_pipeline: bool) -> ChatCall:
    """The call of ``rag.*`` that answers from a collection, or by a pipeline.

    Raises:
        Refused: 400, the request has what is not served.
    """
    _require_served(request, TOLD)
    more = _more_of(request, is_pipeline=is_pipeline)
    has_system = any(each["role"] == "system" for each in request.messages)
    written = _written(request, more)
    params: dict[str, Any] = more | {"query": request.messages[-1]["content"]}
    if earlier := [each for each in request.messages[:-1] if each["role"] != "system"]:
        params["history"] = earlier
    if is_pipeline:
        params["pipeline_id"] = request.model
    else:
        params["options"] = more.get("options", {}) | {"collection": request.model}
    if written:
        params["technique_params"] = more.get("technique_params", {}) | written
    unwritten = [name for name in TOLD if name in request.members] + (["system messages"] if has_system else [])
    return ChatCall("rag.stream" if request.stream else "rag.execute", params, _names(request), True, unwritten)


def _more_of(request: ChatRequest, *, is_pipeline: bool) -> dict[str, Any]:
    """Further params of ``rag.*``, none of which the model or the messages say.

    Raises:
        Refused: 400.
    """
    more = request.more
    for name in ("options", "technique_params"):
        if not isinstance(more.get(name, {}), dict):
            raise bad_request(f"trunkline.{name}", "has to be an object")
    for name in ("query", "history", "pipeline_id"):
        if name in more:
            raise bad_request(f"trunkline.{name}", "is made of model and messages")
    if not is_pipeline and "collection" in more.get("options", {}):
        raise bad_request("trunkline.options.collection", "is the model: leave it out")
    return more


def _written(request: ChatRequest, more: Mapping[str, Any]) -> dict[str, Any]:
    """What of a request is for the language model.

    Raises:
        Refused: 400, ``trunkline`` has some of it, too.
    """
    members = request.members
    written: dict[str, Any] = {name: members[name] for name in ("temperature", "max_tokens") if name in members}
    if "max_completion_tokens" in members:
        written["max_tokens"] = members["max_completion_tokens"]
    if system := [each["content"] for each in request.messages if each["role"] == "system"]:
        written["instructions"] = "\n\n".join(system)
    for name in written:
        if name in more.get("technique_params", {}):
            raise bad_request(f"trunkline.technique_params.{name}", "is said by the request itself already")
    return written


def _names(request: ChatRequest) -> list[str]:
    """The names of speakers, if messages have some, as what has no effect."""
    return ["messages[].name"] if any(each.get("name") for each in request.members["messages"]) else []


def _require_served(request: ChatRequest, taken: Collection[str]) -> None:
    """Check that all members of a request are read, or mean nothing.

    Raises:
        Refused: 400, naming the first that is not.
    """
    for name, value in request.members.items():
        if name in taken or name in OWN or name in WITHOUT_EFFECT or name in TOLD:
            continue
        if name not in NEUTRAL:
            raise bad_request(f"{name:.{MAX_NAMED}}", "there is no such parameter")
        if value not in NEUTRAL[name]:
            raise bad_request(
                name, f"{value!r:.{MAX_NAMED}} is not served by {request.model:.{MAX_NAMED}}; leave it out"
            )
