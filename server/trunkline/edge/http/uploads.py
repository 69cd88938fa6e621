"""Params that arrive as a form, or as a file that is the body, with more of them in the query (SPEC.md, Forms)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from trunkline.edge.context import EdgeContext
from trunkline.edge.http.answer import JSON, Refused
from trunkline.edge.http.body import PAYLOAD_TOO_LARGE, read_parts
from trunkline.edge.http.multipart import FormReader
from trunkline.edge.http.request import JSON_TYPES, media_type, require_uncompressed, unsupported_type
from trunkline.hub.principal import Principal
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.form_fields import FORM, MAX_FIELDS, OCTETS, Declared, Field, FormParams, declared

WITHOUT_PREFLIGHT: Final = frozenset({"text/plain", "application/x-www-form-urlencoded"})
"""Types that a page of a foreign origin can send without asking, as it can a form: a file's type is none of these."""

FORM_PIECE: Final = 32 * 1024
"""Bytes of a form that are read in one turn of the loop. Of boundaries that turn out to be none it takes 5 ms."""

_TYPE: Final = re.compile(r"(?!multipart/)[\w!#$&^.+-]+/[\w!#$&^.+-]+", re.ASCII)
_OWN_SITES: Final = frozenset({"same-origin", "none"})


def upload_of(headers: Headers, info: MethodInfo | None) -> MethodInfo | None:
    """The method that an upload, a form or a file, is for; None for a body of JSON, or none.

    Args:
        info: of the method; None where the hub answers it itself, which takes JSON only.

    Raises:
        Refused: 415 for a type that is neither, or a body that is compressed; 403 for a form of a foreign page.
    """
    given = headers.getlist("content-type")
    if not given or info is None:
        return None
    kind, _ = media_type(given[0])
    if kind in JSON_TYPES and len(given) == 1:
        return None
    if len(given) > 1 or not (kind == FORM or (kind not in WITHOUT_PREFLIGHT and _TYPE.fullmatch(kind))):
        raise unsupported_type(headers, (JSON, FORM, OCTETS))
    require_uncompressed(headers)
    if kind == FORM:
        require_own_page(headers)
    return info


def require_own_page(headers: Headers) -> None:
    """Refuse a form (403) of which the browser says that another site sent it, and not which.

    A form can be sent to any site without a CORS preflight. Browsers name the page's ``Origin`` with it, which every
    door checks; this is for one that leaves it out.
    """
    if "origin" not in headers and headers.get("sec-fetch-site", "none") not in _OWN_SITES:
        raise Refused(RpcError(ErrorCode.FORBIDDEN, "a form of another site has to name its origin"))


async def read_upload(
    context: EdgeContext, principal: Principal, scope: Scope, headers: Headers, receive: Receive, info: MethodInfo
) -> bytes:
    """The params of a call, from a body of :func:`upload_of`, and from the query.

    Raises:
        Refused: what :func:`trunkline.edge.http.body.read_parts` refuses; 422 that names a field, 400 for what is no
            form, 413 for too many fields, 415 for a file where the method takes none.
        PeerLeft: the peer disconnected before the body was complete.
    """
    kind, _ = media_type(headers["content-type"])
    parameters = _parameters(info)
    params = FormParams(info.name, parameters)
    reader: FormReader | _FileReader
    try:
        _take_query(scope, params)
        if kind == FORM:
            reader = FormReader(headers["content-type"], params)
        else:
            reader = _FileReader(_file_parameter(headers, info.name, parameters or {}), kind, params)
        await read_parts(context, principal, headers, receive, reader.take, FORM_PIECE)
        reader.finish()
        return params.encode()
    except RpcError as error:
        raise Refused(error, PAYLOAD_TOO_LARGE if "limit" in error.data else None) from error


def _parameters(info: MethodInfo) -> dict[str, Declared] | None:
    """What each parameter takes; None where others may come: for a method of a client that does not say what it has."""
    if info.open:
        return None
    return {parameter.name: declared(parameter.schema) for parameter in info.parameters}


def _take_query(scope: Scope, params: FormParams) -> None:
    query: bytes = scope["query_string"]
    try:
        fields = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"the query is not valid: {error}") from None
    for name, text in fields:
        params.expect(name)
        params.add(Field(name, bytearray(text.encode())))


def _file_parameter(headers: Headers, method: str, parameters: dict[str, Declared]) -> str:
    """The one parameter that is a file."""
    files = [name for name, takes in parameters.items() if takes.is_file]
    if not files:
        raise unsupported_type(headers, (JSON, FORM))
    if len(files) > 1:
        words = f"{method} takes several files, {' and '.join(files)}: send a form ({FORM}) with a field for each"
        raise RpcError(ErrorCode.INVALID_PARAMS, words)
    return files[0]


class _FileReader:
    """Reads a body that is the file for one parameter."""

    def __init__(self, name: str, kind: str, params: FormParams) -> None:
        params.expect(name)
        self._field = Field(name, bytearray(), kind)
        self._params = params

    def take(self, data: bytes) -> None:
        """Read on."""
        self._field.data += data

    def finish(self) -> None:
        """Give the file to the params."""
        self._params.add(self._field)
