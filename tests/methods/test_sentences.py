"""Splitting technical prose."""

from __future__ import annotations

from trunkline.methods.rag.sentences import Sentence, split_sentences


def texts(passage: str) -> list[str]:
    return [sentence.text for sentence in split_sentences(passage)]


def test_sentences_are_split_at_their_ends_and_nowhere_else() -> None:
    passage = (
        'The first one calls "x.y()" here. It is quoted here as "so." (In brackets, e.g. The ones.)\n'
        "Version 3.10 is not an end? That is one!  *Emphasis* begins this one."
    )
    assert texts(passage) == [
        'The first one calls "x.y()" here.',
        'It is quoted here as "so."',
        "(In brackets, e.g. The ones.)",
        "Version 3.10 is not an end?",
        "*Emphasis* begins this one.",
    ]


def test_headings_fragments_and_announcements_of_lists_are_left_out() -> None:
    passage = """of a sentence that began before.

The "with" statement
********************

The statement is used to wrap a block. It goes on as follows:

1. The expression is evaluated to obtain
   a context manager.

* The block is executed after that. Whatever it raises is passed on.

The rest of this is cut in the"""
    assert texts(passage) == [
        "The statement is used to wrap a block.",
        "The expression is evaluated to obtain a context manager.",
        "The block is executed after that.",
        "Whatever it raises is passed on.",
    ]


def test_code_is_never_cut_and_goes_with_its_announcement() -> None:
    passage = """The following code:

   with A() as a:
       run(a). Then()

   try:
       pass
   finally:
       close()

is equivalent to this. Another sentence is here:

   >>> 1 + 1
   2
"""
    assert split_sentences(passage) == [
        Sentence(
            "The following code:",
            "with A() as a:\n    run(a). Then()\n\ntry:\n    pass\nfinally:\n    close()",
        ),
        Sentence("is equivalent to this."),
        Sentence("Another sentence is here:", ">>> 1 + 1\n2"),
    ]


def test_indented_prose_is_prose() -> None:
    passage = """Note:

     The statement guarantees that if the method returns without an
     error, then the other one will always be called.

   If the suite was exited due to an exception, it is reraised."""
    assert texts(passage) == [
        "The statement guarantees that if the method returns without an error, then the other one will always be "
        "called.",
        "If the suite was exited due to an exception, it is reraised.",
    ]


def test_a_grammar_is_code_and_a_passage_may_begin_with_it() -> None:
    assert split_sentences('   with_stmt ::= "with" with_item ":" suite\n\nThe grammar stands above here.') == [
        Sentence("", 'with_stmt ::= "with" with_item ":" suite'),
        Sentence("The grammar stands above here."),
    ]


def test_nothing_is_made_of_nothing() -> None:
    assert split_sentences("") == split_sentences(" \n\n\t\n") == split_sentences("Heading\n=======") == []


def test_every_topic_of_the_reference_splits_into_what_it_says() -> None:
    from pydoc_data.topics import topics

    for name, topic in topics.items():
        folded = " ".join(topic.split())
        sentences = split_sentences(topic)
        for sentence in sentences:
            assert " ".join(sentence.code.split()) in folded, name
        assert sentences or len(topic) < 400, name
