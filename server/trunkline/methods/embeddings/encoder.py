"""From texts to vectors, in the two steps that are batched apart: tokens once, when a text comes in; then passes.

The steps are sentence-transformers' own, and the vectors those of ``SentenceTransformer.encode``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

SAMPLES: Final = ("warm", "Both of them are read, and compared with what the library says.")


@dataclass(slots=True)
class Text:
    """A text on its way.

    Attributes:
        tokens: what the tokenizer makes of it (``input_ids`` and more), once it has.
        cut: the model reads its beginning only.
    """

    text: str
    tokens: dict[str, list[int]] = field(default_factory=dict)
    cut: bool = False

    @property
    def count(self) -> int:
        """Tokens the model reads, its own marks included."""
        return len(self.tokens["input_ids"])


class Pass(Protocol):
    """One pass through a model."""

    def __call__(self, texts: Sequence[Text]) -> NDArray[np.float32]:
        """Vectors of length 1, a row a text. The texts have their tokens."""


class Tokenizer:
    """The model's tokenizer, cutting texts off where the model stops reading.

    Args:
        encoder: its first module has to be a transformer.

    Raises:
        ValueError: the first module is no transformer.
    """

    def __init__(self, encoder: SentenceTransformer) -> None:
        self._tokenizer: Any = encoder.tokenizer
        if not callable(self._tokenizer) or not hasattr(self._tokenizer, "pad"):
            raise ValueError("it does not begin with a transformer, and this release knows no other models")
        self._max_length: int = encoder.max_seq_length or self._tokenizer.model_max_length
        prompt = encoder.prompts.get(encoder.default_prompt_name) if encoder.default_prompt_name else None
        self._prompt: str = prompt or ""
        # It warns that padding apart is slower; here the text may wait for its pass between the two.
        getattr(self._tokenizer, "deprecation_warnings", {})["Asking-to-pad-a-fast-tokenizer"] = True

    @property
    def max_tokens(self) -> int:
        """How many tokens of a text the model reads, its own marks included."""
        return self._max_length

    @property
    def prompt(self) -> str:
        """The text that the model expects in front of each text; often empty."""
        return self._prompt

    def read(self, texts: Sequence[Text]) -> None:
        """Give each text its tokens. Any thread may call this."""
        prompted = [self._prompt + each.text for each in texts]
        found = self._tokenizer(prompted, truncation="longest_first", max_length=self._max_length)
        for index, each in enumerate(texts):
            each.tokens = {name: values[index] for name, values in found.items()}
            each.cut = each.count == self._max_length and self._is_longer(prompted[index], found, index)

    def _is_longer(self, prompted: str, found: Any, index: int) -> bool:
        """Whether a text that fills the model has more tokens than that."""
        if found.encodings is not None:
            return bool(found.encodings[index].overflowing)
        return len(self._tokenizer(prompted)["input_ids"]) > len(found["input_ids"][index])

    def text_of(self, numbers: Sequence[int]) -> str:
        """The text that the tokenizer makes these tokens of, without the model's own marks.

        Raises:
            ValueError: there is none: they are another tokenizer's, or a part of what this one makes.
        """
        marks = {*self._tokenizer.all_special_ids} - {self._tokenizer.unk_token_id}
        size = len(self._tokenizer)
        strange = next((each for each in numbers if not 0 <= each < size or each in marks), None)
        if strange is not None:
            raise ValueError(f"{strange} is no token of a text: this model has {size}, its own marks among them")
        text: str = self._tokenizer.decode(numbers, clean_up_tokenization_spaces=False)
        if self._tokenizer(text, add_special_tokens=False)["input_ids"] != list(numbers):
            raise ValueError(f"the tokenizer makes other tokens of {text!r:.80}, the text that they would be")
        return text

    def pad(self, texts: Sequence[Text], kind: str) -> dict[str, Any]:
        """The tokens of several texts as arrays, padded to the longest. ``kind``: ``pt`` (torch) or ``np`` (numpy)."""
        names = texts[0].tokens
        return dict(self._tokenizer.pad({n: [each.tokens[n] for each in texts] for n in names}, return_tensors=kind))


def torch_pass(encoder: SentenceTransformer, tokenizer: Tokenizer) -> Pass:
    """Passes through the model as it was loaded, on its own device."""
    import torch

    own = own_features(encoder, tokenizer)

    def run(texts: Sequence[Text]) -> NDArray[np.float32]:
        with torch.inference_mode():
            features = {
                name: value.to(encoder.device) if isinstance(value, torch.Tensor) else value
                for name, value in own(texts).items()
            }
            return as_vectors(encoder(features)["sentence_embedding"], encoder.truncate_dim)

    return run


def own_features(encoder: SentenceTransformer, tokenizer: Tokenizer) -> Callable[[Sequence[Text]], dict[str, Any]]:
    """The function that makes features of tokenized texts: by padding, or, for models that want more, from the text.

    Which it is, is found out by comparing both for :data:`SAMPLES`.
    """
    samples = [Text(sample) for sample in SAMPLES]
    tokenizer.read(samples)
    padded = tokenizer.pad(samples, "pt")
    wanted = encoder.preprocess([*SAMPLES], prompt=tokenizer.prompt or None)
    if wanted.keys() - {"modality"} == padded.keys() and all(padded[n].equal(wanted[n]) for n in padded):
        return lambda texts: tokenizer.pad(texts, "pt")
    return lambda texts: encoder.preprocess([each.text for each in texts], prompt=tokenizer.prompt or None)


def as_vectors(tensor: Any, dimension: int | None = None) -> NDArray[np.float32]:
    """A torch tensor of embeddings as vectors of length 1, cut to ``dimension`` components before."""
    import torch

    if dimension is not None:
        tensor = tensor[:, :dimension]
    array: NDArray[np.float32] = torch.nn.functional.normalize(tensor.float(), p=2, dim=1).cpu().numpy()
    return array
