"""The ``@event`` decorator: what the events of a topic, or of all that fit a pattern, carry."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, TypeVar

from trunkline.methods.binding import schema_of_given
from trunkline.methods.declaration import RegistrationError
from trunkline_protocol.catalogue import TopicInfo
from trunkline_protocol.topics import is_hubs_own, valid_pattern

Class = TypeVar("Class", bound=type[Any])

_MARK: Final = "__trunkline_events__"
"""The attribute of a class with the patterns that it was declared for."""


def event(pattern: str) -> Callable[[Class], Class]:
    """Declare that events of a topic carry data of a class: a TypedDict, a dataclass or a model.

    The first line of its docstring says when such events are published. Both are told in ``rpc.discover``, in the
    AsyncAPI document and to generated clients. **Nobody checks events by it** when they are published.

    Args:
        pattern: a topic, or a pattern of topics: ``*`` is one token, ``>`` at the end one or more.

    Raises:
        RegistrationError: it is no pattern, or names topics of the hub.
    """
    if not isinstance(pattern, str) or not valid_pattern(pattern):
        raise RegistrationError(f"@event: {pattern!r:.300} is no topic and no pattern of topics")
    if is_hubs_own(pattern):
        raise RegistrationError(f"@event: {pattern} is the hub's own; declare another topic")

    def declare(cls: Class) -> Class:
        if not inspect.isclass(cls):
            raise RegistrationError(f"@event({pattern!r}) is for classes, not for {cls!r:.100}")
        setattr(cls, _MARK, (*_patterns_of(cls), pattern))
        return cls

    return declare


def declared_topics(module: ModuleType, pack: str) -> dict[str, TopicInfo]:
    """What a module declares of topics, by pattern: of the classes that are its globals.

    Raises:
        RegistrationError: a type has no form on the wire, or one pattern is declared for two types.
    """
    topics: dict[str, TopicInfo] = {}
    for cls in list({id(value): value for value in vars(module).values() if inspect.isclass(value)}.values()):
        for pattern in _patterns_of(cls):
            topic = TopicInfo(pattern, _summary(cls), _schema(cls, pattern), pack)
            if (why := topic.contradicts(topics.get(pattern))) is not None:
                raise RegistrationError(why)
            topics[pattern] = topic
    return topics


def _patterns_of(cls: type[Any]) -> tuple[str, ...]:
    """The patterns of a class itself, not those of its bases."""
    found: tuple[str, ...] = vars(cls).get(_MARK, ())
    return found


def _schema(cls: type[Any], pattern: str) -> dict[str, Any]:
    try:
        return schema_of_given(cls, f"@event({pattern!r})")
    except TypeError as error:
        raise RegistrationError(str(error)) from error


def _summary(cls: type[Any]) -> str:
    own = vars(cls).get("__doc__")
    return inspect.cleandoc(own).partition("\n\n")[0].replace("\n", " ") if isinstance(own, str) else ""
