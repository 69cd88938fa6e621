"""What of a passage may answer by itself, from the blocks of its metadata and from plain text."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("sentencex")
pytest.importorskip("regex")

from trunkline.methods.rag.blocks import blocks_of, headings_of
from trunkline.methods.rag.units import units_of


def led(passage: str, metadata: dict[str, Any] | None = None, language: str = "en") -> list[tuple[str, str]]:
    units = units_of(passage, blocks_of(passage, metadata or {}), language)
    for unit in units:
        assert passage[unit.start : unit.end] == unit.text(passage)
    return [(unit.kind, unit.led(passage)) for unit in units]


def blocks(*parts: tuple[str, str]) -> tuple[str, dict[str, Any]]:
    text, found = "", []
    for kind, part in parts:
        found.append([kind, len(text), len(text) + len(part)])
        text += part + "\n\n"
    return text, {"blocks": found}


def test_each_kind_of_block_gives_what_answers() -> None:
    text, metadata = blocks(
        ("heading", "Removing packages"),
        ("paragraph", "There are two ways. Choose one of these:"),
        ("list_item", "remove keeps the configuration"),
        ("list_item", "purge does not"),
        ("paragraph", "Run this as root:"),
        ("code", "# apt purge nginx\nDone."),
        ("table_row", "Option | Meaning"),
        ("table_row", "-y | asks nothing"),
        ("definition", "dpkg\nThe tool below apt."),
    )
    assert led(text, metadata) == [
        ("sentence", "There are two ways."),
        ("list_item", "Choose one of these:\nremove keeps the configuration"),
        ("list_item", "Choose one of these:\npurge does not"),
        ("code", "Run this as root:\n# apt purge nginx\nDone."),
        ("table_row", "Option | Meaning\n-y | asks nothing"),
        ("definition", "dpkg\nThe tool below apt."),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        "paragraph", [["paragraph", 0]], [["paragraph", 0, 10_000]], [["paragraph", 5, 2]], [["magic", 0, 5]],
        [["paragraph", 0, 5], ["paragraph", 3, 8]], [["paragraph", "0", 5]], [["paragraph", 0, 1]] * 2_000,
    ],
)  # fmt: skip
def test_blocks_that_cannot_be_are_found_in_the_text_instead(wrong: Any) -> None:
    assert led("One sentence here. Another one there.", {"blocks": wrong}) == [
        ("sentence", "One sentence here."), ("sentence", "Another one there."),
    ]  # fmt: skip


def test_blocks_of_plain_text_are_found() -> None:
    passage = """of a sentence that began before.

The "with" statement
********************

The statement wraps a block. It goes on as follows:

1. The expression is evaluated to obtain
   a context manager.

* The block is executed.

The following code:

   with A() as a:
       run(a). Then()

is equivalent to this."""
    assert led(passage) == [
        ("sentence", "The statement wraps a block."),
        ("list_item", "It goes on as follows:\n1. The expression is evaluated to obtain\n   a context manager."),
        ("list_item", "It goes on as follows:\n* The block is executed."),
        ("code", "The following code:\n   with A() as a:\n       run(a). Then()"),
        ("sentence", "is equivalent to this."),
    ]


def test_blocks_of_markdown_are_found() -> None:
    passage = "## Options\n\n| name | default |\n|---|---|\n| size | 80 |\n\nLike this:\n\n```sh\nrun --size 9\n```\n"
    assert led(passage) == [
        ("table_row", "| name | default |\n| size | 80 |"),
        ("code", "Like this:\nrun --size 9"),
    ]


def test_indented_prose_is_prose() -> None:
    passage = "Note:\n\n     The statement guarantees that if the method returns without an\n     error, it is called."
    assert [kind for kind, _ in led(passage)] == ["sentence"]


def test_long_items_are_their_sentences_and_long_code_is_pieces() -> None:
    item = "- Size of a page. " + "It has many more words than fit into one unit of an answer here. " * 5
    kinds = led(item)
    assert [kind for kind, _ in kinds] == ["list_item"] * 6
    assert kinds[1][1].startswith("- Size of a page.\nIt has")
    code = "```\n" + "".join(f"line{number} = {number}\n" for number in range(20)) + "```"
    pieces = led(code)
    assert [kind for kind, _ in pieces] == ["code"] * 3
    assert "\n".join(text for _, text in pieces) == code.removeprefix("```\n").removesuffix("\n```")


@pytest.mark.parametrize(
    ("language", "passage", "expected"),
    [
        (
            "zh",
            "数据库保存在磁盘上。你可以随时备份它!真的吗?",
            ["数据库保存在磁盘上。", "你可以随时备份它!", "真的吗?"],
        ),
        ("ja", "保存されます。備えます。", ["保存されます。", "備えます。"]),
        ("de", "Das gilt z.B. am 3. Mai. Dr. Müller kam.", ["Das gilt z.B. am 3. Mai.", "Dr. Müller kam."]),
    ],
)
def test_sentences_are_those_of_the_language(language: str, passage: str, expected: list[str]) -> None:
    assert [text for _, text in led(passage, language=language)] == expected


def test_nothing_is_made_of_nothing() -> None:
    assert led("") == led(" \n\n\t\n") == led("Heading\n=======") == led("```\n```") == []


def test_headings_are_what_the_metadata_says() -> None:
    assert headings_of({"headings": ["a", 1, "b"]}) == ["a", "b"]
    assert headings_of({"headings": "a"}) == headings_of({}) == []


def test_every_topic_of_the_reference_splits_into_what_it_says() -> None:
    from pydoc_data.topics import topics

    for name, topic in topics.items():
        units = units_of(topic, blocks_of(topic, {}), "en")
        assert units or len(topic) < 400, name
        assert all(first.start < second.end for first, second in pairwise(units)), name
