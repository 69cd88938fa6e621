"""What a bundle leaves out of what it has gathered."""

from __future__ import annotations

import json
from typing import Any

from trunkline.cli.bundle.parts import Part
from trunkline.cli.bundle.redaction import WITHHELD, redacted
from trunkline.observe.secrets import MASK, SecretMask

CONNECTIONS = Part(
    "connections.json",
    {
        "connections": [
            {"principal": "ann", "tenant": "acme", "peer": "10.1.2.3:4711"},
            {"principal": "bob", "tenant": "default", "peer": "127.0.0.1:99"},
            {"principal": "anonymous", "tenant": "acme", "peer": "10.1.2.3:4712"},
        ]
    },
)


def clean(*parts: Part, everything: bool = True, secrets: tuple[str, ...] = ("s3cret-1",)) -> list[Any]:
    cleaned, _texts = redacted(parts, SecretMask(secrets), everything=everything)
    return [each.content for each in cleaned]


def test_names_and_addresses_are_numbers_the_same_ones_everywhere() -> None:
    topics = Part(
        "topics.json",
        {"topics": [{"topic": "users.ann.inbox"}], "subscribed": [{"pattern": "ann.>"}], "more": 0},
    )
    health = Part("health.json", {"causes": ["cancelled by ann.", "annual.report fails", "ann.report fails", "ann-2"]})
    connections, cleaned, said = clean(CONNECTIONS, topics, health)
    assert [tuple(each.values()) for each in connections["connections"]] == [
        ("principal-1", "tenant-1", "peer-1:4711"),
        ("principal-2", "default", "127.0.0.1:99"),
        ("anonymous", "tenant-1", "peer-1:4712"),
    ]
    assert (cleaned["topics"][0]["topic"], cleaned["subscribed"][0]["pattern"]) == (
        "users.principal-1.inbox",
        "principal-1.>",
    )
    assert said["causes"] == ["cancelled by principal-1.", "annual.report fails", "ann.report fails", "ann-2"]


def test_who_was_refused_is_named_in_no_error() -> None:
    parts = [Part("calls.json", error="Ann B. may not use system.calls (role admin) (FORBIDDEN 6002)"), CONNECTIONS]
    cleaned, texts = redacted(parts, SecretMask(), everything=True)
    assert cleaned[0].error == "principal-1 may not use system.calls (role admin) (FORBIDDEN 6002)"
    assert texts("hello Ann B.!") == "hello principal-1!"


def test_names_stay_where_they_are_wanted_and_secrets_do_not() -> None:
    said = Part(
        "log.json", {"records": [{"event": "ann said s3cret-1", "password": "x", "logger": "app", "executor": "e"}]}
    )
    connections, log = clean(CONNECTIONS, said, everything=False)
    assert connections == CONNECTIONS.content
    assert log["records"] == [{"event": "ann said ***", "password": MASK, "logger": "app", "executor": "e"}]


def test_what_methods_say_is_withheld_wherever_it_is_said_again() -> None:
    health = Part(
        "health.json",
        {
            "causes": ["debug.fail fails 100 %: INTERNAL_ERROR: no such patient s3cret-1", "executor-0 is down"],
            "methods": [{"last_error": {"type": "INTERNAL_ERROR", "message": "no such patient s3cret-1"}}],
        },
    )
    jobs = Part(
        "jobs.json",
        {
            "jobs": [
                {
                    "id": "j1",
                    "principal": "ann",
                    "progress": {"page": "of a diary"},
                    "error": {"code": 7, "message": "diary", "data": {"type": "APPLICATION_ERROR", "of": "diary"}},
                    "last_error": None,
                }
            ]
        },
    )
    log = Part(
        "log.json",
        {
            "records": [
                {"logger": "trunkline.executors.output", "executor": "executor-0", "event": "diary", "pid": 3},
                {
                    "logger": "shop",
                    "executor": "executor-0",
                    "event": "diary",
                    "customer": "diary",
                    "method": "shop.buy",
                },
                {
                    "logger": "trunkline.executor",
                    "executor": "executor-0",
                    "event": "shop.buy failed (id 5), from 10.9.8.7",
                    "exception": 'Traceback (most recent call last):\n  File "shop.py", line 3, in buy\n'
                    '    raise ValueError("diary")\nValueError: diary\n  of\ndiary',
                },
                {"logger": "trunkline", "event": "settings changed", "message": "diary"},
            ],
            "dropped": 0,
        },
    )
    said, listed, logged = clean(health, jobs, log)
    assert said["causes"] == [f"debug.fail fails 100 %: INTERNAL_ERROR: {WITHHELD}", "executor-0 is down"]
    assert said["methods"][0]["last_error"] == {"type": "INTERNAL_ERROR", "message": WITHHELD}
    (job,) = listed["jobs"]
    assert (job["progress"], job["error"]) == (WITHHELD, {"code": 7, "type": "APPLICATION_ERROR"})
    assert "diary" not in json.dumps(logged)
    output, _shop, failed, changed = logged["records"]
    assert output == {"logger": "trunkline.executors.output", "executor": "executor-0", "event": WITHHELD, "pid": 3}
    assert failed["event"] == "shop.buy failed (id 5), from peer-1"
    assert [line.strip() for line in failed["exception"].splitlines()] == [
        "Traceback (most recent call last):",
        'File "shop.py", line 3, in buy',
        f"ValueError: {WITHHELD}",
    ]
    assert changed["event"] == "settings changed"


def test_schemas_keep_their_properties_and_lose_what_may_be_a_value() -> None:
    schema = {"properties": {"password": {"type": "string", "default": "s3cret-2"}, "default": {"type": "string"}}}
    methods = Part(
        "methods.json", {"methods": [{"params": [{"name": "token", "schema": schema | {"examples": ["x"]}}]}]}
    )
    (cleaned,) = clean(methods)
    (param,) = cleaned["methods"][0]["params"]
    assert param["name"] == "token"
    assert param["schema"] == {"properties": {"password": {"type": "string"}, "default": {"type": "string"}}}


def test_of_groups_settings_the_names_stay() -> None:
    work = {"methods": ["work"], "env": {"DSN": "x"}, "settings": {"dsn": "y"}, "size": 2}
    report = {
        "settings": {"groups": {"value": {"work": work}, "source": "file"}, "token": {"value": MASK, "source": "file"}}
    }
    (cleaned,) = clean(Part("settings.json", report))
    assert cleaned["settings"]["groups"]["value"]["work"] == work | {"env": {"DSN": MASK}, "settings": {"dsn": MASK}}
    assert cleaned["settings"]["token"] == {"value": MASK, "source": "file"}
