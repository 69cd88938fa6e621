"""What depends on a language: which one a text is in, its sentences, its words and their stems.

For texts as people write them, in any script. Languages are named by ISO 639-1 (``hr``); a region behind it
(``pt-BR``) is passed over. A language that nothing is known of is treated by Unicode's rules alone.
"""

from __future__ import annotations

from trunkline.methods.languages.detection import DEFAULT_LANGUAGE, base_language, language_of
from trunkline.methods.languages.models import is_english, knows
from trunkline.methods.languages.sentences import sentence_spans
from trunkline.methods.languages.words import count_words, question_stems, stems, stop_words, words

__all__ = [
    "DEFAULT_LANGUAGE",
    "base_language",
    "count_words",
    "is_english",
    "knows",
    "language_of",
    "question_stems",
    "sentence_spans",
    "stems",
    "stop_words",
    "words",
]
