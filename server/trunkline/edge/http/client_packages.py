"""The packages of the clients that match this hub, for ``npm install`` and ``pip install`` from its own address.

The JavaScript ones are built files beside the dashboard's. The Python one is a wheel made of the modules installed
here: the client, what it imports, and nothing of the server.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import hashlib
import importlib.metadata
import io
import logging
import re
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

import trunkline
import trunkline_protocol
from trunkline.edge.http.dashboard import ASKED_ABOUT, SECURITY_HEADERS, Asset, Endpoint
from trunkline.version import __version__

DISTRIBUTION: Final = "trunkline-client"
WHEEL: Final = f"trunkline_client-{__version__}-py3-none-any.whl"
FOLDERS: Final = {
    "trunkline": Path(trunkline.__file__).parent,
    "trunkline_protocol": Path(trunkline_protocol.__file__).parent,
}
CLIENT: Final = "trunkline.client"
TESTING: Final = "trunkline.testing"
"""A module of the wheel that only says what to install: it would bring the hub along."""

EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the wheel, so that the same sources are the same bytes."""

INSTRUCTIONS: Final = """The clients of this hub, in its version ({version})

{javascript}
Python:              pip install {base}/{wheel}

They connect to {socket}/ws. Any JSON-RPC 2.0 client over a WebSocket, or HTTP at {base}/rpc, works as well.
"""


JAVASCRIPT: Final = """Node.js, Bun:        npm install {base}/client.tgz        (and ws, on Node.js 20)
a page, no bundler:  import {{ connect }} from "{base}/client.js"        (and client-msgpack.js)
                     (a page of another origin: TRUNKLINE_ALLOWED_ORIGINS, or --dev)"""

NOT_BUILT: Final = """The JavaScript client has not been built here. In a clone of the repository, with Node.js 20:

  make setup                                         # or: cd clients && npm ci && npm run build
  pip install .                                      # again, where the hub was installed so

and start the hub again. npm install CLONE/clients/js installs it without a hub.
"""

TGZ, MODULE = "/client.tgz", "/client.js"

logger = logging.getLogger("trunkline.edge")


def client_packages(built: Collection[str]) -> dict[str, Endpoint]:
    """The endpoints of the Python wheel, and of a page that says how to install each client, by path.

    Args:
        built: paths of the files that are served already. Where those of the JavaScript client are missing, something
            says so in their place.
    """
    has_javascript = TGZ in built and MODULE in built
    if not has_javascript:
        logger.info("the JavaScript client is not served, it has not been built (run make setup)")

    async def instructions(request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        javascript = (JAVASCRIPT if has_javascript else NOT_BUILT).format(base=base)
        socket = base.replace("http", "ws", 1)
        text = INSTRUCTIONS.format(version=__version__, base=base, wheel=WHEEL, socket=socket, javascript=javascript)
        return PlainTextResponse(text, headers={"Cache-Control": "no-store", **SECURITY_HEADERS})

    missing = {} if has_javascript else {TGZ: _not_built, MODULE: _not_built}
    return {"/client": instructions, f"/{WHEEL}": _wheel, **missing}


async def _not_built(_request: Request) -> Response:
    return PlainTextResponse(NOT_BUILT, 404, headers={"Cache-Control": "no-store", **SECURITY_HEADERS})


_made: dict[str, Asset] = {}


async def _wheel(request: Request) -> Response:
    if WHEEL not in _made:
        body = await asyncio.to_thread(client_wheel)
        tag = hashlib.sha256(body).hexdigest()[:32]
        _made[WHEEL] = Asset(body, None, tag, "application/zip", ASKED_ABOUT)
    return await _made[WHEEL](request)


def client_wheel() -> bytes:
    """A wheel (PEP 427) of the Python client as it is installed here, with the dependencies that it imports."""
    modules, imported = _closure(CLIENT)
    modules[TESTING] = FOLDERS["trunkline"] / "testing" / "__init__.py"
    info = f"trunkline_client-{__version__}.dist-info"
    files = dict(_files(modules))
    files[f"{info}/METADATA"] = _metadata(imported).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: trunkline\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD").encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _closure(start: str) -> tuple[dict[str, Path], frozenset[str]]:
    """The modules of this product that a module needs, with their files; and the top-level names of all others."""
    found: dict[str, Path] = {}
    others: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module.partition(".")[0] not in FOLDERS:
            others.add(module.partition(".")[0])
            continue
        file = None if module in found else _file_of(module)
        if file is None:
            continue
        found[module] = file
        waiting += [module.rpartition(".")[0]] if "." in module else []
        waiting += _imports(ast.parse(file.read_bytes()))
    return found, frozenset(others)


def _file_of(module: str) -> Path | None:
    """The file of a module; None for a name that is none, but a member of one. Nothing is imported for it."""
    root, _, rest = module.partition(".")
    place = FOLDERS[root].joinpath(*rest.split(".")) if rest else FOLDERS[root]
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


def _imports(node: ast.AST) -> Iterator[str]:
    """The names that code imports, wherever it does so; not for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str() as module, names=names):
                yield module
                if module.partition(".")[0] in FOLDERS:
                    yield from (f"{module}.{name.name}" for name in names)
            case _:
                yield from _imports(child)


def _files(modules: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    for module, file in sorted(modules.items()):
        folder = module.replace(".", "/")
        yield (f"{folder}/__init__.py" if file.name == "__init__.py" else f"{folder}.py"), file.read_bytes()
    for root in FOLDERS:
        yield f"{root}/py.typed", b""


def _metadata(imported: frozenset[str]) -> str:
    """The wheel's METADATA: of what the product requires, that which the client imports."""
    required = [
        requirement
        for requirement in importlib.metadata.requires("trunkline") or ()
        if ";" not in requirement and _name_of(requirement) in imported
    ]
    return "\n".join(
        [
            "Metadata-Version: 2.1",
            f"Name: {DISTRIBUTION}",
            f"Version: {__version__}",
            "Summary: The Python client of the Trunkline hub, without the hub",
            "License: Apache-2.0",
            "Requires-Python: >=3.11",
            *(f"Requires-Dist: {requirement}" for requirement in sorted(required)),
            "",
        ]
    )


def _name_of(requirement: str) -> str:
    """The name that a requirement's package is imported by: all of the client's have the name they are installed by."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return "" if found is None else found.group().lower().replace("-", "_")


def _record(files: dict[str, bytes], own: str) -> str:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{own},,", ""])
