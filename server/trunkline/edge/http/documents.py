"""The endpoint of an API document: OpenAPI, OpenRPC or AsyncAPI, with an ETag."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from trunkline.hub.principal import Principal

NOT_MODIFIED = 304


def document(describe: Callable[[Principal], bytes]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for a JSON document that changes seldom: it responds 304 where the client's ETag is current.

    Args:
        describe: makes the document for a principal.
    """

    async def endpoint(request: Request) -> Response:
        body = describe(request.state.principal)
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        # Methods may change when an executor restarts: the document may be cached, but has to be revalidated.
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if has_tag(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=NOT_MODIFIED, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    return endpoint


def has_tag(listed: str, tag: str) -> bool:
    """Whether ``If-None-Match`` names a tag (RFC 9110, 13.1.2: weak or not)."""
    names = [name.strip().removeprefix("W/") for name in listed.split(",")]
    return tag in names or "*" in names
