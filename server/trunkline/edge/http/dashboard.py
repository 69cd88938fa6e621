"""The live dashboard at ``/``: files that ``make setup`` builds from ``clients/dashboard`` and the wheel contains."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from trunkline.edge.http.documents import NOT_MODIFIED, has_tag

Endpoint = Callable[[Request], Awaitable[Response]]

FOLDER: Final = Path(__file__).with_name("static")
INDEX: Final = "index.html"
HASHED: Final = "assets/"
"""The names of files below this folder change with their content, so that browsers may keep them."""

KEPT: Final = "public, max-age=31536000, immutable"
ASKED_ABOUT: Final = "no-cache"

MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".tgz": "application/gzip",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
"""Media types by suffix; files of other kinds are not served."""

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

NOT_BUILT: Final = """Trunkline

This hub is running. Its WebSocket is at /ws (JSON-RPC 2.0); /health, /ready and /metrics report its state.

The dashboard has not been built. In a clone of the repository, `make setup` builds it (with Node.js 20 or newer);
the wheel contains it.
"""

logger = logging.getLogger("trunkline.edge")


@dataclass(frozen=True, slots=True)
class Asset:
    """An endpoint that serves one file, held in memory with its headers.

    Attributes:
        body: the file's content.
        compressed: the content with gzip; None where that gains nothing.
        tag: names the content, without quotes.
    """

    body: bytes
    compressed: bytes | None
    tag: str
    media_type: str
    cache_control: str

    async def __call__(self, request: Request) -> Response:
        """Respond to GET and HEAD, with 304 where the browser has the file already."""
        use_gzip = self.compressed is not None and _takes_gzip(request.headers.get("accept-encoding", ""))
        tag = f'"{self.tag}-gz"' if use_gzip else f'"{self.tag}"'
        headers = SECURITY_HEADERS | {"Cache-Control": self.cache_control, "ETag": tag, "Vary": "Accept-Encoding"}
        if has_tag(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=NOT_MODIFIED, headers=headers)
        if use_gzip:
            headers["Content-Encoding"] = "gzip"
        body = self.compressed if use_gzip else self.body
        return Response(body, media_type=self.media_type, headers=headers)


def dashboard_pages(folder: Path = FOLDER) -> dict[str, Endpoint]:
    """The endpoints of all built files, by path; one page that says what to do where nothing has been built.

    All files are read now, and their paths are all there is: a request cannot name another file.

    Args:
        folder: of the files that ``npm run build`` has made.
    """
    assets = dict(_assets(folder))
    index = assets.get(f"/{INDEX}")
    if index is None:
        logger.info("the dashboard is not served, it has not been built (run make setup)")
        return {"/": _not_built}
    return {"/": index, **assets}


def _assets(folder: Path) -> Iterator[tuple[str, Asset]]:
    for path in sorted(folder.rglob("*")):
        media_type = MEDIA_TYPES.get(path.suffix)
        if media_type is None or not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        body = path.read_bytes()
        compressed = path.with_name(f"{path.name}.gz")
        yield (
            f"/{name}",
            Asset(
                body,
                compressed.read_bytes() if compressed.is_file() else None,
                hashlib.sha256(body).hexdigest()[:32],
                media_type,
                KEPT if name.startswith(HASHED) else ASKED_ABOUT,
            ),
        )


async def _not_built(_request: Request) -> Response:
    return PlainTextResponse(NOT_BUILT, headers={"Cache-Control": "no-store", **SECURITY_HEADERS})


def _takes_gzip(accepted: str) -> bool:
    """Whether ``Accept-Encoding`` names gzip, with a quality above 0."""
    for item in accepted.lower().split(","):
        name, _, parameters = item.strip().partition(";")
        if name.strip() == "gzip":
            quality = parameters.replace(" ", "").removeprefix("q=")
            return quality.strip("0.") != "" if quality else True
    return False
