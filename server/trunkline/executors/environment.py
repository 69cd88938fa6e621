"""Chooses the variables of the hub's environment that executors get: those on a list, and those that a setting names.

Methods are other people's code, and what they print, dump or start shows their environment. So secrets that sign tokens
or pay for a language model are not in it: packs get the settings they need over standard input.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

SETTING: Final = "TRUNKLINE_EXECUTOR_ENV"
"""The setting that names further variables; a name that ends with a star stands for all that begin so."""

_PASSED: Final = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "PWD", "LANG", "LANGUAGE", "TZ", "TZDIR", "TMPDIR",
        "TEMP", "TMP", "TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CI", "VIRTUAL_ENV",
        "LD_LIBRARY_PATH", "LD_PRELOAD", "GLIBC_TUNABLES", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE", "OPENSSL_CONF", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY",
        "NLTK_DATA", "TIKTOKEN_CACHE_DIR", "TESSDATA_PREFIX",
    }
)  # fmt: skip

_PASSED_PREFIXES: Final = (
    "LC_", "PYTHON", "XDG_", "DYLD_", "MALLOC_", "MIMALLOC_", "CONDA_", "OTEL_", "RUST_", "COVERAGE_", "COV_CORE_",
    "FAKETIME", "ASAN_", "LSAN_", "UBSAN_", "TSAN_",
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "VECLIB_", "NUMEXPR_", "NUMBA_", "RAYON_",
    "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "ROCM_", "HSA_", "SYCL_", "ONEAPI_", "ZE_",
    "HF_", "HUGGINGFACE_", "HUGGING_FACE_", "TRANSFORMERS_", "SENTENCE_TRANSFORMERS_", "TOKENIZERS_", "TORCH_",
    "TORCHINDUCTOR_", "PYTORCH_", "TRITON_", "OPENVINO_", "OV_", "ONNX", "ORT_", "FAISS_", "TF_CPP_",
    "TF_ENABLE_", "TF_FORCE_", "TF_GPU_", "JAX_", "XLA_", "MPL",
)  # fmt: skip
"""Prefixes of variables for the interpreter, for numeric libraries and devices, and for finding and loading models."""

_SECRET: Final = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|HEADERS)S?$", re.IGNORECASE)
"""Matches names that may hold secrets: such variables are passed only where the setting names them."""

_OURS: Final = "TRUNKLINE_"

logger = logging.getLogger("trunkline.executor")


def executor_environment(
    environment: Mapping[str, str], named: Collection[str]
) -> tuple[dict[str, str], list[str], list[str]]:
    """Split the hub's environment into what executors get and what is withheld.

    Args:
        environment: of the hub.
        named: the patterns in :data:`SETTING`. A star does not match the hub's own settings.

    Returns:
        The variables that executors get; the names of the others, sorted, without the hub's settings; and those of the
        names that are on the list but look like secrets.
    """
    passed = {name: value for name, value in environment.items() if _is_named(name, named) or _is_passed(name)}
    withheld = sorted(name for name in environment.keys() - passed.keys() if not name.upper().startswith(_OURS))
    return passed, withheld, [name for name in withheld if _is_listed(name)]


def _is_passed(name: str) -> bool:
    return _is_listed(name) and not _SECRET.search(name)


def _is_listed(name: str) -> bool:
    return name.upper() in _PASSED or name.startswith(_PASSED_PREFIXES)


def _is_named(name: str, named: Iterable[str]) -> bool:
    return any(
        name.startswith(pattern[:-1]) and not name.upper().startswith(_OURS)
        if pattern.endswith("*")
        else name == pattern
        for pattern in named
    )


class _Watched(os._Environ[str]):
    """An environment that logs, once per name, when a variable is looked up that the hub withheld."""

    withheld: set[str]

    def __getitem__(self, key: str) -> str:
        try:
            return super().__getitem__(key)
        except KeyError:
            if key in self.withheld:
                self.withheld.discard(key)
                logger.warning(
                    "%s is set for the hub but not passed to executors; if methods need it, name it in %s", key, SETTING
                )
            raise


def watch(withheld: Iterable[str]) -> None:
    """Make ``os.environ`` of this process log, once per name, that a variable is missing because it was withheld."""
    environment = os.environ
    environment.__class__ = _Watched
    assert isinstance(environment, _Watched)
    environment.withheld = set(withheld)
