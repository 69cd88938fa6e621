"""Tests of mails: each part that is text is read, whatever charset it claims."""

from __future__ import annotations

from email.message import EmailMessage

import pytest

pytest.importorskip("lxml")

from trunkline.methods.documents.extract import extract

HEAD = b"From: a@b.c\nSubject: S\nMIME-Version: 1.0\n"


def text(words: str) -> EmailMessage:
    part = EmailMessage()
    part.set_content(words)
    return part


def test_all_texts_of_a_mail_are_read_in_order() -> None:
    mail = EmailMessage()
    mail["Subject"] = "Photos"
    mail.make_mixed()
    image = EmailMessage()
    image.set_content(b"\x89PNG", "image", "png", disposition="inline", filename="cat.png")
    both = text("behind the picture")
    both.add_alternative("<p>behind the picture</p>", subtype="html")
    for part in (text("before the picture"), image, both, text("last")):
        mail.attach(part)
    found = extract(mail.as_bytes(), "a.eml")
    assert found.text == "Subject: Photos\n\nbefore the picture\n\nbehind the picture\n\nlast"
    assert found.note == "attachments are not read: cat.png"


@pytest.mark.parametrize(
    ("charset", "body", "words", "noted"),
    [
        (b"unknown-8bit", b"caf\xe9", "café", "read as windows-1252"),
        (b"unknown-8bit", "café".encode(), "café", "it is no unknown-8bit, which it says it is, and was read as UTF-8"),
        (b"no-such-thing", b"caf\xe9", "café", "read as windows-1252"),
        (b"iso-8859-2", b"\xb1", "ą", None),
    ],
)
def test_a_charset_that_nobody_knows_is_told(charset: bytes, body: bytes, words: str, noted: str | None) -> None:
    kind = b"Content-Type: text/plain; charset=" + charset + b"\nContent-Transfer-Encoding: 8bit\n\n"
    found = extract(HEAD + kind + body, "a.eml")
    assert found.text.endswith(f"\n\n{words}")
    assert (noted is None) == (found.note is None)
    assert (noted or "") in (found.note or "")
