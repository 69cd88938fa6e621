"""The names that settings and environment variables may have, and what is said where they are wrong."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from trunkline_protocol.topics import valid_pattern

PREFIX: Final = "TRUNKLINE_"

OF_CLIENTS: Final = "URL"
"""The hub that clients of the command line talk to. What is neither this nor a setting is refused."""

_OF_KUBERNETES: Final = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
"""What Kubernetes sets in every pod for a service named ``trunkline``, or ``trunkline-<something>``."""


class SettingsError(ValueError):
    """Invalid settings.

    Args:
        errors: the name of the setting (empty where it concerns several) and what is wrong, without values, which may
            be secrets.

    Attributes:
        problems: each in words, with the name of the setting.
    """

    def __init__(self, errors: list[tuple[str, str]]) -> None:
        self.errors = errors
        self.problems = [f"{name}: {words}" if name else words for name, words in errors]
        super().__init__("; ".join(self.problems))


def unknown_variables(
    environment: Mapping[str, str], settings: Collection[str], others: Iterable[str] = ()
) -> list[str]:
    """The problems with names of variables, one sentence each. Never shows a value: it may be a secret.

    Args:
        environment: all variables; only names with our prefix are looked at, in upper or lower case.
        settings: the names of settings.
        others: further names that are right, with the prefix.
    """
    known = [name.upper() for name in (*settings, OF_CLIENTS)]
    right = {PREFIX + name for name in known} | {name.upper() for name in others}
    given = sorted(name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in right)
    return [
        f"{name}: no such setting{_meant(short, known, PREFIX)}"
        for name in given
        if not _is_of_kubernetes(short := name.upper().removeprefix(PREFIX), environment[name])
    ]


def unknown_key(name: str, settings: Collection[str]) -> str:
    """The problem with a key of the configuration file that is not a setting, in one sentence."""
    return f"{name}: no such setting{_meant(name.rpartition('.')[2].lower(), settings)}"


def _meant(name: str, known: Collection[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return (
        f"; did you mean {prefix}{near[0]}?"
        if near
        else "; remove it, or see Settings in the README for the valid names"
    )


def _is_of_kubernetes(name: str, value: str) -> bool:
    return bool(_OF_KUBERNETES.fullmatch(name)) or (name.endswith("_PORT") and "://" in value)


def require_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Check origins of browsers, ``*`` and ``loopback``; raises ValueError for what no browser ever sends."""
    for origin in origins:
        if origin not in ("*", "loopback") and not re.fullmatch(r"[A-Za-z][\w+.-]*://[^/\s]+/?", origin):
            raise ValueError(f"{origin!r:.100} is no origin such as https://app.example or http://localhost:5173")
    return origins


def require_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    """Check addresses and networks; raises ValueError for what is neither."""
    for network in networks:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            raise ValueError(f"{network!r:.100} is no address or network, such as 127.0.0.1 or 10.0.0.0/8") from error
    return networks


def require_variables(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check names of variables, or beginnings of names (``X*``); raises ValueError for what is neither."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*?", name):
            raise ValueError(f"{name!r:.100} is no name of a variable, or beginning of names such as MYAPP_*")
    return names


def require_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Check topics and patterns; raises ValueError for what is neither."""
    for pattern in patterns:
        if not valid_pattern(pattern):
            raise ValueError(f"{pattern!r:.100} is no topic or pattern (tokens joined by dots, * for one, a last >)")
    return patterns


def parted(problems: Sequence[str]) -> list[tuple[str, str]]:
    """Problems as pairs of a name and words."""
    return [(name, words) for name, _, words in (problem.partition(": ") for problem in problems)]


def problems_of(
    found: Iterable[Mapping[str, Any]], names_in: Callable[[str], Collection[str]]
) -> list[tuple[str, str]]:
    """The problems of settings that are not valid, as pairs of a name and words.

    Args:
        found: as pydantic lists them.
        names_in: the names that there are in a part of the settings, by its first name.
    """
    return [(".".join(map(str, item["loc"])), _words(item, names_in)) for item in found]


def _words(item: Mapping[str, Any], names_in: Callable[[str], Collection[str]]) -> str:
    if item["type"] == "extra_forbidden":
        name = ".".join(map(str, item["loc"]))
        return unknown_key(name, names_in(str(item["loc"][0]))).removeprefix(f"{name}: ")
    return str(item["msg"]).removeprefix("Value error, ")
