"""From a text to passages: sizes in the model's own tokens, places in characters."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("semantic_text_splitter")
pytest.importorskip("docx")

import itertools
from collections.abc import Callable

from tests.methods.document_files import word_model
from trunkline.methods.documents.blocks import FileText, TextBuilder
from trunkline.methods.documents.extract import from_text
from trunkline.methods.documents.html import read_html
from trunkline.methods.documents.markdown import read_markdown, read_plain
from trunkline.methods.documents.split import CHARACTERS_A_TOKEN, SEGMENT, Passage, Splitter
from trunkline.methods.documents.tokens import ModelTokens, load_tokens
from trunkline_protocol.errors import ErrorCode, RpcError

SENTENCE = "Größe 日本語テキスト 😀 naïve.\n\n"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> ModelTokens:
    return load_tokens(word_model(tmp_path_factory.mktemp("model")))


def count(tokens: ModelTokens, text: str) -> int:
    return len(tokens.tokenizer.encode(text).ids)


def test_the_model_says_how_much_it_reads(tokens: ModelTokens) -> None:
    assert (tokens.limit, tokens.marks) == (32, 2)
    assert tokens.sizes(None, 0) == (30, 0)
    assert tokens.sizes(10, 5) == (10, 5)


def test_a_model_that_reads_much_is_given_passages_of_256(tmp_path: Path) -> None:
    assert load_tokens(word_model(tmp_path, reads=8192)).sizes(None, 0) == (254, 0)


def test_a_tokenizer_that_truncates_says_how_much_where_nothing_else_does(tmp_path: Path) -> None:
    folder = word_model(tmp_path)
    (tmp_path / "sentence_bert_config.json").unlink()
    assert load_tokens(folder).limit == 16


@pytest.mark.parametrize(
    ("chunk", "overlap", "says"),
    [(31, 0, "options.chunk_tokens: 31 is more than the 30"), (10, 6, "options.overlap_tokens: 6 is more than half")],
)
def test_sizes_that_cannot_be_are_refused(tokens: ModelTokens, chunk: int, overlap: int, says: str) -> None:
    with pytest.raises(RpcError, match=says) as caught:
        tokens.sizes(chunk, overlap)
    assert caught.value.code == ErrorCode.INVALID_PARAMS


def test_a_model_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(RpcError, match=f"the tokenizer of the embedding model {tmp_path} cannot be loaded") as caught:
        load_tokens(str(tmp_path))
    assert caught.value.code == ErrorCode.PIPELINE_INITIALIZATION_FAILED
    with pytest.raises(RpcError, match="no such folder") as caught:
        load_tokens("./nowhere")
    assert caught.value.code == ErrorCode.INVALID_CONFIGURATION


@pytest.mark.parametrize("read", [read_markdown, read_plain])
def test_places_are_exact_in_any_script(tokens: ModelTokens, read: Callable[[str], FileText]) -> None:
    document = read(SENTENCE * 400)
    text = document.text
    passages = Splitter(tokens, 30).split(document)
    assert len(passages) > 50
    assert all(passage.text == text[passage.start : passage.end] for passage in passages)
    assert all(count(tokens, passage.text) <= 32 for passage in passages)
    assert "".join("".join(passage.text.split()) for passage in passages) == "".join(text.split())


def test_passages_may_overlap(tokens: ModelTokens) -> None:
    text = " ".join(f"w{number}" for number in range(100))
    passages = Splitter(tokens, 20, 5).split(read_plain(text))
    assert all(after.start < before.end for before, after in itertools.pairwise(passages))
    assert all(passage.text == text[passage.start : passage.end] for passage in passages)


def test_a_long_text_is_split_in_segments_that_can_be_left(tokens: ModelTokens) -> None:
    text = SENTENCE * (3 * SEGMENT // len(SENTENCE))
    checks: list[int] = []
    passages = Splitter(tokens, 30).split(read_plain(text), lambda: checks.append(1))
    assert len(checks) >= 3
    assert all(passage.text == text[passage.start : passage.end] for passage in passages)
    assert "".join("".join(passage.text.split()) for passage in passages) == "".join(text.split())


def test_what_is_no_words_is_cut_all_the_same(tokens: ModelTokens) -> None:
    text = "A" * 100_000
    passages = Splitter(tokens, 30).split(read_plain(text))
    assert max(len(passage.text) for passage in passages) == 30 * CHARACTERS_A_TOKEN
    assert "".join(passage.text for passage in passages) == text


def test_front_matter_is_not_split(tokens: ModelTokens) -> None:
    document = from_text("---\ntitle: T\n---\nwords of the body")
    (passage,) = Splitter(tokens, 30).split(document)
    assert passage.text == "words of the body" == document.text[passage.start : passage.end]


GUIDE = """# Guide

## Opening

To open one, call this:

```c
int open(const char *name) {
    return sqlite3_open_v2(name, &db, FLAGS, 0);
}
```

- one item of the list that is short
- another item of the list that is short

| option | what it does |
|---|---|
| mode | how it is opened |
| vfs | the name of the file system |

### Why so?

Because.
"""


def pieces(passage: Passage) -> list[tuple[str, str]]:
    return [(block.kind, passage.text[block.start : block.end]) for block in passage.blocks]


@pytest.mark.parametrize("size", [14, 20, 30, 60, 120])
def test_what_fits_is_in_one_passage_as_a_whole(tokens: ModelTokens, size: int) -> None:
    document = read_markdown(GUIDE)
    passages = Splitter(tokens, size).split(document)
    for block in document.blocks:
        text = document.text[block.start : block.end]
        if count(tokens, text) - 2 <= size - size // 4 - 1 and block.kind != "paragraph":
            assert any((block.kind, text) in pieces(passage) for passage in passages), text
    for passage in passages:
        assert passage.text == document.text[passage.start : passage.end]
        assert all(kind != "heading" for kind, _ in pieces(passage)[2:]), "headings begin passages"
        given = f"{passage.context}\n\n{passage.text}" if passage.context else passage.text
        assert count(tokens, given) <= size + 2


def test_passages_know_what_they_stand_below(tokens: ModelTokens) -> None:
    passages = Splitter(tokens, 30).split(read_markdown(GUIDE))
    assert {passage.headings for passage in passages} == {("Opening",), ("Opening", "Why so?")}
    assert passages[-1].text == "Why so?\n\nBecause."
    assert passages[-1].context == "Guide > Opening"


def test_code_is_cut_after_lines_and_keeps_its_indentation(tokens: ModelTokens) -> None:
    code = "\n".join(f"    line {number}: do_it();" for number in range(40))
    document = read_html(f"<h1>Code</h1><pre>{code}</pre>")
    passages = Splitter(tokens, 30).split(document)
    assert len(passages) > 5
    for passage in passages:
        for kind, text in pieces(passage):
            assert kind == "heading" or all(line.startswith("    line ") for line in text.splitlines())


def test_the_end_of_a_paragraph_is_shared_where_wanted(tokens: ModelTokens) -> None:
    text = "\n\n".join(" ".join(f"w{row}x{number}" for number in range(18)) for row in range(6))
    passages = Splitter(tokens, 28, 6).split(read_plain(text))
    assert all(0 < before.end - after.start < 60 for before, after in itertools.pairwise(passages))
    assert all(passage.text == text[passage.start : passage.end] for passage in passages)
    assert all(count(tokens, passage.text) <= 30 for passage in passages)


def test_no_passage_goes_on_from_one_page_to_the_next(tokens: ModelTokens) -> None:
    built, starts = TextBuilder(), []
    for page in (("Cats", "A cat sat."), (), ("A dog ran.",)):
        starts.append(built.length + 1 if built.blocks else 0)
        for text in page:
            built.add("table_row", text)
    document = built.build(pages=starts)
    passages = Splitter(tokens, 30, 10).split(document)
    assert [(each.text, document.page_at(each.start)) for each in passages] == [
        ("Cats\nA cat sat.", 1),
        ("A dog ran.", 3),
    ]
