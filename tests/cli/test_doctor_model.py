"""What ``trunkline doctor`` says of the embedding model."""

from __future__ import annotations

import pytest

from trunkline.cli.doctor import _model


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "it knows English alone"),
        ("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", "which languages it knows, its card says"),
    ],
)
def test_the_languages_of_the_model_are_told(model: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_MODEL", model)
    assert says in str(_model(None))
