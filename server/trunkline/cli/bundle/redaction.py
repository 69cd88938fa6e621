"""Takes out of a bundle what is not for others: secrets, names of people and machines, what methods say. Pure.

Secrets are taken out always: tokens, keys, passwords. The rest is by choice: names of principals and tenants, and
addresses, become ``principal-1``, the same one everywhere; the texts of methods' errors, what methods log and print,
and progress of jobs are withheld. Names of methods, topics, collections and files stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from trunkline.cli.bundle.parts import Part
from trunkline.observe.secrets import MASK, Redaction, SecretMask

WITHHELD: Final = "(withheld)"
KINDS: Final = {"principal": "principal", "publisher": "principal", "tenant": "tenant", "peer": "peer"}
"""Members that name somebody, or a machine."""

EVERYBODYS: Final = frozenset(
    {"anonymous", "token", "parent", "(unauthenticated)", "default", "(hub)", "", "unix", "stdio"}
)
"""Names that the hub gives itself."""

MESSAGES: Final = frozenset({"message"})
MIN_CHARS: Final = 6
"""A shorter message would be found in ordinary words."""

OF_A_RECORD: Final = frozenset(
    {"time", "level", "logger", "executor", "pid", "method", "methods", "call_id", "request_id", "trace_id"}
)
PRINTED: Final = "trunkline.executors.output"

_ADDRESS: Final = re.compile(r"(?<![\d.])(?!127\.|0\.)\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
_REFUSED: Final = re.compile(r"^(?:[\w.$]+: )?([^:]+?) may not ")
"""Errors name who asked."""

_PORT: Final = re.compile(r":\d+$")
_FRAME: Final = re.compile(r'\s+File "[^"]+", line \d+')
_TYPE: Final = re.compile(r"[A-Za-z_][\w.]*(?=:|$)")

Names = dict[str, str]


def redacted(parts: Sequence[Part], mask: SecretMask, *, everything: bool) -> tuple[list[Part], Callable[[str], str]]:
    """The parts without secrets, and what does the same to a text.

    Args:
        everything: whether names and what methods say are taken out, too.
    """
    texts = _Texts(parts if everything else (), mask)
    cleaned = []
    for each in parts:
        found = each.with_content(_WITHOUT_SECRETS.get(each.name, Redaction(mask)))
        if everything:
            found = found.with_content(_WITHOUT_TEXTS.get(each.name, _without_messages))
        error = None if each.error is None else texts(each.error)
        cleaned.append(Part(found.name, texts.walk(found.content), error, found.at, found.seconds))
    return cleaned, texts


class _Texts:
    """Replaces what is to be in no text of the bundle."""

    def __init__(self, parts: Sequence[Part], mask: SecretMask) -> None:
        self._mask = mask
        names, messages = _learned(parts)
        self._tokens = names
        self._names = _any_of(names, r"(?<![\w-])(?<!\w\.)(?:%s)(?![\w-]|\.\w)")
        messages |= {mask(each) for each in messages}
        self._messages = _any_of({each for each in messages if len(each) >= MIN_CHARS}, "(?:%s)")

    def __call__(self, text: str) -> str:
        if self._messages is not None:
            text = self._messages.sub(WITHHELD, text)
        if self._names is not None:
            text = self._names.sub(lambda found: self._tokens[found[0]], text)
        return self._mask(text)

    def walk(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._mask(str(name)): self._member(name, member) for name, member in value.items()}
        if isinstance(value, list):
            return [self.walk(member) for member in value]
        return self(value) if isinstance(value, str) else value

    def _member(self, name: str, value: Any) -> Any:
        if name in ("topic", "pattern") and isinstance(value, str):  # a token may be the name of somebody
            return ".".join(self._tokens.get(token, self(token)) for token in value.split("."))
        return self.walk(value)


def _any_of(texts: Iterable[str], form: str) -> re.Pattern[str] | None:
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile(form % "|".join(map(re.escape, longest_first))) if longest_first else None


def _learned(parts: Sequence[Part]) -> tuple[Names, set[str]]:
    """Who is named anywhere, with the name that each gets; and the texts of errors."""
    names: Names = {}
    messages: set[str] = set()

    def learn(kind: str, name: str) -> None:
        if name not in EVERYBODYS and name not in names and not _is_loopback(name):
            number = sum(each.startswith(f"{kind}-") for each in names.values()) + 1
            names[name] = f"{kind}-{number}"

    for each in parts:
        if (refused := _REFUSED.search(each.error or "")) is not None:
            learn("principal", refused[1])
        for member, value in _members(each.content):
            if member in KINDS:
                learn(KINDS[member], _PORT.sub("", value) if KINDS[member] == "peer" else value)
            elif member in MESSAGES:
                messages.add(value)
            if each.name == "log.json":
                for address in _ADDRESS.findall(value):
                    learn("peer", address)
    return names, messages


def _members(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, member in value.items():
            if isinstance(member, str):
                yield name, member
            else:
                yield from _members(member)
    elif isinstance(value, list):
        for member in value:
            yield from _members(member)


def _is_loopback(address: str) -> bool:
    return address.startswith(("127.", "[::1]", "::1", "localhost"))


def _without_messages(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: WITHHELD if name in MESSAGES and isinstance(member, str) else _without_messages(member)
            for name, member in value.items()
        }
    return [_without_messages(member) for member in value] if isinstance(value, list) else value


def _jobs(page: dict[str, Any]) -> dict[str, Any]:
    return page | {"jobs": [_job(each) for each in page["jobs"]]}


def _job(job: dict[str, Any]) -> dict[str, Any]:
    """A job without its progress; of errors their code and type stay."""
    changed: dict[str, Any] = {"progress": None if job.get("progress") is None else WITHHELD}
    for member in ("error", "last_error"):
        if isinstance(error := job.get(member), dict):
            data = error.get("data")
            changed[member] = {"code": error.get("code"), "type": data.get("type") if isinstance(data, dict) else None}
    return job | changed


def _log(said: dict[str, Any]) -> dict[str, Any]:
    return said | {"records": [_record(each) for each in said["records"]]}


def _record(record: dict[str, Any]) -> dict[str, Any]:
    """A log record; where a method wrote it, who did and when, and of a traceback where it was."""
    logger = str(record.get("logger", ""))
    if "executor" in record and (logger == PRINTED or not logger.startswith("trunkline")):
        record = {name: value for name, value in record.items() if name in OF_A_RECORD} | {"event": WITHHELD}
    if isinstance(trace := record.get("exception"), str):
        record = record | {"exception": "\n".join(_frames(trace))}
    return dict(_without_messages(record))


def _frames(trace: str) -> Iterator[str]:
    """Where it was, and the error's type: the line behind the last frame. Lines after that are of the error's text."""
    in_frames = False
    for line in trace.splitlines():
        if _FRAME.match(line) or line.startswith("Traceback"):
            in_frames = True
            yield line
        elif in_frames and not line.startswith(" "):
            in_frames = False
            yield f"{found[0] if (found := _TYPE.match(line)) else ''}: {WITHHELD}"


def _without_values(report: dict[str, Any]) -> dict[str, Any]:
    """A report of settings; of groups' ``env`` and ``settings``, whose values may be anything, the names alone."""
    settings = report["settings"]
    groups = {
        name: group | {part: dict.fromkeys(group[part], MASK) for part in ("env", "settings") if group.get(part)}
        for name, group in settings["groups"]["value"].items()
    }
    return report | {"settings": settings | {"groups": settings["groups"] | {"value": groups}}}


def _without_defaults(value: Any) -> Any:
    """Schemas without defaults and examples, which may hold anything."""
    if isinstance(value, dict):
        return {
            name: {each: _without_defaults(schema) for each, schema in member.items()}
            if name == "properties" and isinstance(member, dict)
            else _without_defaults(member)
            for name, member in value.items()
            if name not in ("default", "examples", "example")
        }
    return [_without_defaults(member) for member in value] if isinstance(value, list) else value


_WITHOUT_SECRETS: Final[dict[str, Callable[[Any], Any]]] = {
    "settings.json": _without_values,
    "settings_here.json": _without_values,
    "methods.json": _without_defaults,
    "versions.json": lambda content: content,
    "limits.json": lambda content: content,
}
"""Parts where the name of a member tells of no secret: a schema has a property ``password``, a setting is masked."""

_WITHOUT_TEXTS: Final[dict[str, Callable[[Any], Any]]] = {"log.json": _log, "jobs.json": _jobs}
