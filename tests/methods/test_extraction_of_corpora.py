"""What real pages say is in their text: Debian's documentation, read by the pack and by Python's own parser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for library in ("lxml", "webencodings", "mammoth"):
    pytest.importorskip(library)

from bench.extraction import TARGET, score  # noqa: E402
from bench.extraction_reference import CORPORA, Corpus, Page, Score, found, words_of  # noqa: E402

PAGES = 12
SEED = 72


def sample(corpus: Corpus) -> list[Path]:
    """Some pages. What is not installed is told in CI, and skipped elsewhere."""
    pages = corpus.sample(PAGES, SEED)
    if not pages:
        reason = f"no {corpus.package}: make deps-debian installs it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return pages


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda corpus: corpus.name)
def test_of_real_pages_nothing_is_lost(corpus: Corpus) -> None:
    assert len(corpus.boilerplate) <= 3
    result = sum((score(page, corpus) for page in sample(corpus)), start=Score())
    assert result.runs > 5_000, "the sample says something"
    assert result.share_of_runs >= TARGET
    assert result.share_of_headings >= TARGET


def test_a_loss_is_seen() -> None:
    page = Page(words_of("one two three four five six seven"), [words_of("Why so?")])
    whole = found(page, page.words, page.headings)
    assert (whole.share_of_runs, whole.share_of_headings) == (1, 1)
    turned = found(page, words_of("one two three five four six seven"), [])
    assert (turned.runs_found, turned.headings_found) == (0, 0)
