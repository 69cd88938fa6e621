"""Models converted for OpenVINO: made once, kept on disk, several times quicker than torch on a CPU.

A conversion traces the model as it is loaded. ``float`` keeps the weights and computes in the precision that the CPU is
quickest in (float32, or bfloat16 where it has that): the vectors are torch's but for rounding, and so is the model's
name. ``int8`` quantises weights and activations, calibrated with texts of Python's own documentation: the vectors
differ (cosine 0.997 on average), so the model gets a name of its own, and a collection takes vectors of one only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import io
import json
import logging
import os
import random
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from trunkline import ErrorCode, RpcError
from trunkline.methods.embeddings.encoder import SAMPLES, Pass, Text, Tokenizer, as_vectors, torch_pass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

Precision = Literal["float", "int8"]

RECIPE: Final = 1
"""Counts up when a conversion would come out differently."""

INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
FILES: Final = ("model.xml", "model.bin")
MANIFEST: Final = "manifest.json"
CALIBRATION_TEXTS: Final = 300
CALIBRATION_WORDS: Final = (3, 6, 12, 25, 60, 200)
ALIKE: Final[dict[Precision, float]] = {"float": 0.999, "int8": 0.9}
"""The least cosine between a converted model's vectors and torch's; what has less went wrong."""

logger = logging.getLogger("trunkline.methods")


@dataclass(frozen=True, slots=True)
class Conversion:
    """The conversion of one model to one precision, and its folder, which need not exist."""

    name: str
    precision: Precision
    folder: Path

    @classmethod
    def of(cls, name: str, encoder: SentenceTransformer, precision: Precision, data: Path) -> Conversion:
        """Where the conversion of a model is, or is to be: another model, release or recipe has another folder.

        Args:
            name: the model's, as callers know it.
            data: the hub's data folder.
        """
        digest = hashlib.sha256(f"{RECIPE} {precision} {_versions()} {encoder.max_seq_length}\n".encode())
        digest.update(str(encoder).encode())
        for key, tensor in sorted(encoder.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        slug = re.sub(r"[^A-Za-z0-9.-]+", "-", name.rpartition("/")[2])
        return cls(name, precision, data / "models" / f"{slug}-{precision}-{digest.hexdigest()[:16]}")

    @property
    def exists(self) -> bool:
        """Whether the conversion is on disk."""
        return (self.folder / MANIFEST).is_file()

    def load(self, encoder: SentenceTransformer, tokenizer: Tokenizer) -> Pass:
        """Load the converted model, and convert it first where needed, in one process, which others wait for.

        Raises:
            RpcError: 3002, the files were changed since they were made.
            ValueError: the model cannot be converted.
        """
        if not self.exists:
            with _locked(self.folder.with_suffix(".lock")):
                if not self.exists:
                    self._make(encoder, tokenizer)
        self._check()
        return _openvino_pass(self.folder / FILES[0], encoder, tokenizer)

    def _make(self, encoder: SentenceTransformer, tokenizer: Tokenizer) -> None:
        logger.warning("converting %s (%s) for OpenVINO; this takes up to a minute, once", self.name, self.precision)
        partial = self.folder.with_name(f"{self.folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of one that was killed meanwhile
        partial.mkdir(parents=True)
        convert(encoder, tokenizer, self.precision, partial / FILES[0])
        made = _openvino_pass(partial / FILES[0], encoder, tokenizer)
        least = alikeness(tokenizer, torch_pass(encoder, tokenizer), made)
        if least < ALIKE[self.precision]:
            raise ValueError(f"its conversion makes other vectors than torch (cosine {least:.3f}); use torch")
        sums = {name: _sha256(partial / name) for name in FILES}
        manifest = {"model": self.name, "precision": self.precision, "versions": _versions(), "sha256": sums}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in (*(partial / name for name in (*FILES, MANIFEST)), partial):
            _sync(path)
        partial.rename(self.folder)  # all of it, or nothing
        _sync(self.folder.parent)

    def _check(self) -> None:
        try:
            sums = json.loads((self.folder / MANIFEST).read_text())["sha256"]
            wrong = [name for name in FILES if _sha256(self.folder / name) != sums[name]]
        except (OSError, ValueError, KeyError) as error:
            raise self._damaged(f"{type(error).__name__}: {error}") from error
        if wrong:
            raise self._damaged(f"{', '.join(wrong)} changed since it was made")

    def _damaged(self, how: str) -> RpcError:
        return RpcError(
            ErrorCode.PIPELINE_INITIALIZATION_FAILED,
            f"the converted model in {self.folder} is damaged: {how}; delete that folder, and it is made again",
        )


def convert(encoder: SentenceTransformer, tokenizer: Tokenizer, precision: Precision, target: Path) -> None:
    """Trace a model, from token numbers to vectors, and write it as ``target`` (``.xml``, beside it ``.bin``)."""
    import torch

    example = {name: torch.from_numpy(array) for name, array in _arrays(tokenizer, SAMPLES).items()}
    if strange := example.keys() - INPUTS:
        raise ValueError(f"a model that wants {', '.join(strange)} cannot be converted; use torch")
    with _quiet():
        openvino = import_openvino()
        model = openvino.convert_model(_traceable(encoder), example_input=example)
        if precision == "int8":
            import nncf

            nncf.set_log_level(logging.ERROR)
            texts = calibration_texts(CALIBRATION_TEXTS)
            data = nncf.Dataset([_arrays(tokenizer, [text]) for text in texts])
            model = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(texts))
        openvino.save_model(model, str(target), compress_to_fp16=False)


def calibration_texts(number: int) -> list[str]:
    """Texts from a few words to a page, of the language reference that every CPython carries; always the same."""
    from pydoc_data.topics import topics

    dice = random.Random(0)  # noqa: S311  # no secret
    paragraphs = [part.split() for _name, text in sorted(topics.items()) for part in text.split("\n\n")]
    chosen = dice.sample([words for words in paragraphs if len(words) > min(CALIBRATION_WORDS)], number)
    return [" ".join(words[: dice.choice(CALIBRATION_WORDS)]) for words in chosen]


def alikeness(tokenizer: Tokenizer, one: Pass, other: Pass) -> float:
    """The least cosine between two models' vectors of the same texts."""
    texts = [Text(text) for text in (*SAMPLES, *calibration_texts(6))]
    tokenizer.read(texts)
    return float((one(texts) * other(texts)).sum(axis=1).min())


def import_openvino() -> Any:
    """The module ``openvino`` without its telemetry: a hub reports to nobody."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _openvino_pass(path: Path, encoder: SentenceTransformer, tokenizer: Tokenizer) -> Pass:
    import torch

    openvino = import_openvino()
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # Each executor would pin its threads to the same first cores.
        "ENABLE_CPU_PINNING": False,
    }
    with _quiet():
        compiled = openvino.Core().compile_model(str(path), "CPU", options)
    names = [each.get_any_name() for each in compiled.inputs]
    request = compiled.create_infer_request()
    dimension = encoder.truncate_dim

    def run(texts: Sequence[Text]) -> NDArray[np.float32]:
        arrays = tokenizer.pad(texts, "np")
        request.infer({name: arrays[name] for name in names}, share_inputs=True)
        return as_vectors(torch.from_numpy(request.get_output_tensor(0).data.copy()), dimension)

    return run


def _traceable(encoder: SentenceTransformer) -> Any:
    import torch

    class Traceable(torch.nn.Module):
        """Takes what tokenizers make, by name; gives the vectors alone."""

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.encoder = encoder

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            token_type_ids: torch.Tensor | None = None,
        ) -> torch.Tensor:
            arrays = (input_ids, attention_mask, token_type_ids)
            features = {name: array for name, array in zip(INPUTS, arrays, strict=True) if array is not None}
            vectors: torch.Tensor = self.encoder(features)["sentence_embedding"]
            return vectors

    return Traceable().eval()


def _arrays(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Any]:
    read = [Text(text) for text in texts]
    tokenizer.read(read)
    return tokenizer.pad(read, "np")


def _versions() -> str:
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("openvino", "nncf", "transformers"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence tracing, which warns of each branch, and quantising, which draws progress bars."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
