"""Which language a text is in: by its script where that tells, else by py3langid's model."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any, Final

DEFAULT_LANGUAGE: Final = "en"
SAMPLE: Final = 2_000
"""Characters that are looked at."""
LIKELY: Final = 0.35
OVER_DEFAULT: Final = 10.0
"""A short text is taken for another language than the default only where that is this likely, and so many times as
likely: of names and terms, every language has some."""
SHARE: Final = 0.25
"""Of a text's letters: from this on it is in the language of a script, whatever Latin names stand in it."""

_SCRIPTS: Final = {
    "Hiragana": "ja", "Katakana": "ja", "Hangul": "ko", "Han": "zh", "Greek": "el", "Hebrew": "he", "Thai": "th",
    "Armenian": "hy", "Georgian": "ka", "Tamil": "ta", "Telugu": "te", "Bengali": "bn", "Gujarati": "gu",
    "Gurmukhi": "pa", "Kannada": "kn", "Malayalam": "ml", "Khmer": "km", "Lao": "lo", "Myanmar": "my", "Sinhala": "si",
}  # fmt: skip
"""Scripts of one language each, the rarer ones of a mixed text first: Japanese is written with Chinese signs, too."""
_ALPHABETS: Final = {
    "Latin": {
        "af", "ca", "cs", "cy", "da", "de", "en", "eo", "es", "et", "eu", "fi", "fr", "ga", "gl", "hr", "hu", "id",
        "is", "it", "lt", "lv", "ms", "mt", "nl", "no", "pl", "pt", "ro", "sk", "sl", "sq", "sv", "sw", "tl", "tr",
        "vi",
    },
    "Cyrillic": {"be", "bg", "kk", "ky", "mk", "mn", "ru", "sr", "tg", "uk"},
    "Arabic": {"ar", "fa", "ps", "ur"},
    "Devanagari": {"hi", "mr", "ne", "sa"},
}  # fmt: skip
"""Scripts of several, and those that are told apart."""
_PROBABLY: Final = {"Cyrillic": "ru", "Arabic": "ar", "Devanagari": "hi"}
"""The language of a script of which the model cannot say more."""


def base_language(language: str) -> str:
    """The language of a tag such as ``pt-BR``, in lower case."""
    return language.replace("_", "-").partition("-")[0].lower()


def language_of(text: str, default: str = DEFAULT_LANGUAGE) -> str:
    """The language of a text; ``default`` where it does not say."""
    sample = text[:SAMPLE]
    scripts = _scripts(sample)
    if not scripts:
        return default
    of_one_language = [script for script in _SCRIPTS if scripts[script]]
    if sum(scripts[script] for script in of_one_language) >= SHARE * scripts.total():
        return _SCRIPTS[of_one_language[0]]
    return _told_apart(sample, max(_ALPHABETS, key=scripts.__getitem__), default)


def warm_up() -> None:
    """Load the model, which takes up to a second."""
    _model()


@cache
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _letters() -> Any:
    import regex

    names = [*_SCRIPTS, *_ALPHABETS]
    return regex.compile("|".join(rf"(?P<{name}>\p{{{name}}}+)" for name in names))


def _scripts(text: str) -> Counter[str]:
    """How many characters of each script there are, of the scripts that are known."""
    found: Counter[str] = Counter()
    for run in _letters().finditer(text):
        found[run.lastgroup] += len(run[0])
    return found


def _told_apart(text: str, script: str, default: str) -> str:
    fallback = default if script == "Latin" else _PROBABLY[script]
    candidates = {name: float(share) for name, share in _model().rank(text) if name in _ALPHABETS[script]}
    total = sum(candidates.values())
    if not total:
        return fallback
    best: str = max(candidates, key=candidates.__getitem__)
    if script != "Latin":
        return best
    likely = candidates[best] / total >= LIKELY and candidates[best] >= OVER_DEFAULT * candidates.get(default, 0.0)
    return best if likely else fallback
