"""The words of a text in one form, for comparing: NFC and NFD, upper and lower case are the same.

Scripts that put no spaces between words (Chinese, Japanese, Thai, ...), and Korean, whose words grow endings, give
pairs of neighbouring characters instead, as Lucene's CJK analyser does: they are found without a dictionary.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from trunkline.methods.languages.detection import DEFAULT_LANGUAGE, base_language

_STEMMERS: Final = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hr": "serbian", "hu": "hungarian", "hy": "armenian",
    "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian",
    "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish",
    "ta": "tamil", "tr": "turkish",
}  # fmt: skip
"""Snowball's names. Croatian has no stemmer of its own; the Serbian one takes Latin letters."""
_STOP_WORDS: Final = {
    "da": "DANISH", "de": "GERMAN", "en": "EN_PLUS", "es": "SPANISH", "fr": "FRENCH", "it": "ITALIAN", "nl": "DUTCH",
    "no": "NORWEGIAN", "pt": "PORTUGUESE", "ru": "RUSSIAN", "sv": "SWEDISH", "tr": "TURKISH",
}  # fmt: skip
_GRAMMAR: Final = {
    "zh": frozenset("的了吗呢吧是么怎哪谁什何我你请"),
    "ja": frozenset(map(chr, range(0x3041, 0x3097))),  # Hiragana: particles and endings
}
_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"


def words(text: str) -> list[str]:
    """The words of a text, in order, in the form they are compared in."""
    return list(_words(text))


def stems(text: str, language: str = DEFAULT_LANGUAGE) -> list[str]:
    """The stems of the words of a text, without those that say nothing by themselves (``the``, ``of``)."""
    base = base_language(language)
    passed_over = stop_words(base)
    kept = [word for word in _words(text) if word not in passed_over]
    stemmer = _stemmer(base)
    found: list[str] = kept if stemmer is None else stemmer.stemWords(kept)
    return found


def question_stems(text: str, language: str = DEFAULT_LANGUAGE) -> list[str]:
    """The stems of a question that say what it is about: of pairs of characters, those without grammar in them."""
    found = stems(text, language)
    grammar = _GRAMMAR.get(base_language(language))
    said = [each for each in found if grammar is None or not grammar & {*each}]
    return said or found


def count_words(text: str) -> int:
    """How many words a text has: what stands between spaces, and of scripts without spaces two characters each."""
    unspaced = sum(map(len, _unspaced().findall(text)))
    return len(_unspaced().sub(" ", text).split()) + (unspaced + 1) // 2


@cache
def stop_words(language: str) -> frozenset[str]:
    """The words of a language that say nothing by themselves; none where no list is known."""
    name = _STOP_WORDS.get(base_language(language))
    if name is None:
        return frozenset()
    from bm25s import stopwords

    return frozenset(form(word) for word in getattr(stopwords, f"STOPWORDS_{name}"))


def form(text: str) -> str:
    """The form in which texts are compared."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", text).casefold())


@cache
def _stemmer(language: str) -> Any:
    import Stemmer

    name = _STEMMERS.get(language)
    return None if name is None else Stemmer.Stemmer(name)


@cache
def _pattern() -> Any:
    import regex

    return regex.compile(
        rf"(?P<unspaced>[{_UNSPACED}][{_UNSPACED}\p{{M}}]*)|[\p{{L}}\p{{M}}\p{{N}}_--[{_UNSPACED}]]+", regex.V1
    )


@cache
def _unspaced() -> Any:
    import regex

    return regex.compile(f"[{_UNSPACED}]+")


def _words(text: str) -> Iterator[str]:
    for found in _pattern().finditer(form(text)):
        word = found[0]
        if found["unspaced"] is None or len(word) == 1:
            yield word
        else:
            yield from (word[at : at + 2] for at in range(len(word) - 1))
