from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.observe import logs
from trunkline.observe.secrets import MASK, Redaction, SecretMask, secrets_of
from trunkline.observe.tap import MAX_KEPT, MAX_RECORDS, LogTap


@given(st.text(), st.text(min_size=6), st.text())
def test_a_secret_is_nowhere(before: str, secret: str, after: str) -> None:
    mask = SecretMask([secret])
    if secret not in MASK:
        assert secret not in mask(before + secret + after).replace(MASK, "")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer ***"),
        ("offered trunkline.bearer.c2VjcmV0 and more", "offered trunkline.bearer.*** and more"),
        ("base64url.bearer.phx.c2VjcmV0", "base64url.bearer.phx.***"),
        ("GET /socket/websocket?vsn=2.0.0&token=s3cr3t HTTP", "GET /socket/websocket?vsn=2.0.0&token=*** HTTP"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl.", "jwt ***."),
        ("GET /v1?a=1&signing-key=s3cr3t&b=2", "GET /v1?a=1&signing-key=***&b=2"),
        ("at postgres://ada:s3cr3t@db:5432/x, not", "at postgres://***@db:5432/x, not"),
        ("at redis://:p@ss@db and https://s3cr3t@git.example/x", "at redis://***@db and https://***@git.example/x"),
        ("http://host/ask?of=ada@example.org ws://host", "http://host/ask?of=ada@example.org ws://host"),
        ("a bearer of news; token=7 of 9 tokens", "a bearer of news; token=7 of 9 tokens"),
    ],
)
def test_what_looks_like_a_credential(text: str, masked: str) -> None:
    assert SecretMask()(text) == masked


def test_the_secrets_of_an_environment() -> None:
    environment = {
        "PATH": "/bin",
        "PGPASSWORD": "one",
        "MY_API_KEY": "two",
        "DSN": "postgres://u:three@h/d",
        "KEYS": "4",
    }
    assert sorted(secrets_of(environment)) == ["4", "one", "three", "two"]


def test_the_longer_secret_goes_first() -> None:
    assert SecretMask(["secret-1", "secret-1-and-more"])("secret-1-and-more secret-1") == "*** ***"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_secrets_are_in_no_part_of_a_line(root: logging.Logger, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    secret = 'hub"token-123'
    logs.configure_logs("info", form, [secret])  # type: ignore[arg-type]
    try:
        raise ValueError(f"wrong: {secret}")
    except ValueError:
        logging.getLogger("trunkline.x").exception("with %s", secret, extra={"field": secret, "nested": {"a": secret}})
    said = stream.getvalue()
    assert MASK in said
    assert secret not in said
    assert json.dumps(secret)[1:-1] not in said


def test_a_tap_gives_what_comes_while_it_is_open(root: logging.Logger) -> None:
    tap = LogTap(SecretMask(["a-secret-1"]))
    tap.start()
    logger = logging.getLogger("trunkline.tap")
    tap.open()
    logger.warning("during %s", "a-secret-1", extra={"number": 7, "who": "a-secret-1"})
    try:
        raise KeyError("a-secret-1")
    except KeyError:
        logger.exception("failed")
    records, dropped = tap.take()
    tap.close()
    logger.warning("after")
    assert tap.take() == ([], 0)
    assert dropped == 0
    first, second = records
    assert str(first.pop("time")).endswith("+00:00")
    assert first == {"level": "warning", "logger": "trunkline.tap", "event": "during ***", "number": 7, "who": "***"}
    traceback = str(second["exception"])
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.endswith("\nKeyError: '***'"), "whole, and without the secret"
    tap.stop()
    logger.warning("at the end")
    tap.open()
    assert said(tap) == ["after"]


def said(tap: LogTap) -> list[str]:
    return [str(record["event"]) for record in tap.take()[0]]


def test_a_tap_begins_with_the_last_records_that_nobody_was_told_of(root: logging.Logger) -> None:
    tap = LogTap(SecretMask(["a-secret-1"]))
    tap.start()
    logger = logging.getLogger("trunkline.tap")
    for number in range(MAX_KEPT + 5):
        logger.warning("%d a-secret-1", number)
    tap.open()
    assert said(tap) == [f"{number} ***" for number in range(5, MAX_KEPT + 5)]
    logger.warning("told")
    assert said(tap) == ["told"]
    tap.close()
    logger.warning("untold")
    logging.getLogger("trunkline.requests").warning("a call")
    tap.open()
    assert said(tap) == ["untold"]
    logging.getLogger("trunkline.requests").warning("a call")
    assert said(tap) == ["a call"]
    tap.stop()


def test_a_tap_is_bounded(root: logging.Logger) -> None:
    tap = LogTap(SecretMask())
    tap.start()
    tap.open()
    for _ in range(MAX_RECORDS + 20):
        logging.getLogger("trunkline.tap").warning("again")
    records, dropped = tap.take()
    tap.stop()
    assert (len(records), dropped) == (MAX_RECORDS, 20)


def test_secrets_in_json_are_found_by_their_names_and_by_their_looks() -> None:
    redaction = Redaction(SecretMask(["a-secret-1"]))
    found = redaction(
        {
            "user": {"name": "ann", "Password": "short", "api_key": 12, "apiKey": ["x"], "hasPassword": True},
            "next_page_token": "t",
            "max_tokens": 256,
            "tokens": ["a", "b"],
            "passages": ["one"],
            "texts": ["say a-secret-1", "Bearer abcdef123456", "plain"],
            "secret": None,
        }
    )
    assert found == {
        "user": {"name": "ann", "Password": MASK, "api_key": MASK, "apiKey": MASK, "hasPassword": True},
        "next_page_token": MASK,
        "max_tokens": 256,
        "tokens": ["a", "b"],
        "passages": ["one"],
        "texts": ["say ***", "Bearer ***", "plain"],
        "secret": None,
    }
    assert redaction.count == 6
