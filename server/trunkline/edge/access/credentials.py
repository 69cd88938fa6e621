"""Authentication: every kind of credential behind one function that returns the principal of a token."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trunkline.edge.access import hook as hooks
from trunkline.edge.access.async_hook import AsyncHook
from trunkline.edge.access.grants import Roles
from trunkline.edge.access.hook import HOOK_CREDENTIAL
from trunkline.edge.access.jwt_tokens import JWT_CREDENTIAL, JwtOptions, JwtTokens, UnknownKeyError, looks_like_jwt
from trunkline.edge.access.key_set_url import fetch
from trunkline.edge.access.tokens import TokensFile
from trunkline.hub.act_as import act_as, require_gateway, tenant_of
from trunkline.hub.principal import ANONYMOUS, ROLES, AnsweredHandshake, Authenticate, Handshake, Principal
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import ActAs

MAX_TOKEN_CHARS: Final = 16 * 1024
"""A longer token is refused unread."""

NEEDS_CREDENTIALS: Final = (
    "this hub requires a token: send Authorization: Bearer <token>; from a browser offer the subprotocol "
    "trunkline.bearer.<base64url of the token>; or, where the hub allows it, make auth {token} the first call"
)

_STATIC: Final = Principal("token", ROLES, credential="static")

RETRY_MS: Final = 2000
"""The hint of a refusal while keys are fetched."""


class Credentials:
    """Authenticates peers by the static token, the tokens file, JWTs, and the operator's own hook, in this order.

    The first one that recognises a token decides: an expired entry of the file, or a JWT that fails, is not offered to
    the hook. With none configured every peer is :data:`~trunkline.hub.principal.ANONYMOUS`, which is for loopback only.

    Args:
        token: the static bearer token; its bearer has every built-in role.
        tokens_file: see :mod:`trunkline.edge.access.tokens`.
        jwt: see :mod:`trunkline.edge.access.jwt_tokens`.
        hook: called for tokens that none of the others recognises, and where there is no token; where it is an
            :class:`AsyncHook`, doors await :meth:`prepare` first.

    Raises:
        ValueError: one of them cannot work; the message says what to do and shows no secret.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        tokens_file: Path | None = None,
        jwt: JwtOptions | None = None,
        hook: Authenticate | AsyncHook | None = None,
    ) -> None:
        if token is not None and not token.strip():
            raise ValueError("TRUNKLINE_TOKEN is empty; set a token or leave it unset")
        self._static = None if token is None else _bytes(token)
        self._tokens_path = tokens_file
        self._jwt_options = jwt
        self.async_hook = hook if isinstance(hook, AsyncHook) else None
        self._hook: Authenticate | None = self._answered if isinstance(hook, AsyncHook) else hook
        self._tokens = None if tokens_file is None else TokensFile.load(tokens_file)
        self._key_set = None if jwt is None or jwt.keys_url is None else fetch(jwt.keys_url)
        self._jwt = None if jwt is None else JwtTokens(jwt, self._key_set)
        self.ask_keys: Callable[[str], bool] = lambda _kid: False
        if (
            self._tokens is not None and not self._tokens and jwt is None and hook is None
        ):  # a reload may take the last one away
            raise ValueError(f"{tokens_file}: has no tokens: make one with 'trunkline token NAME >> {tokens_file}'")

    @property
    def is_open(self) -> bool:
        """Whether every peer is let in, because no credentials are configured."""
        return self._static is None and self._tokens is None and self._jwt is None and self._hook is None

    def authenticate(self, handshake: Handshake) -> Principal:
        """The principal of a peer; this is the :data:`~trunkline.hub.principal.Authenticate` of every door.

        Raises:
            RpcError: 6001, with a message that never shows the token; -32603 where the hook failed.
        """
        if self.is_open:
            return ANONYMOUS
        if handshake.token is not None and len(handshake.token) > MAX_TOKEN_CHARS:
            raise RpcError(ErrorCode.UNAUTHENTICATED, f"the token has more than {MAX_TOKEN_CHARS} characters")
        if handshake.token is not None and (principal := self._known(handshake.token)) is not None:
            return principal
        if self._hook is not None:
            return self._roles.limited(hooks.ask(self._hook, handshake))
        raise RpcError(
            ErrorCode.UNAUTHENTICATED, NEEDS_CREDENTIALS if handshake.token is None else "the token is not valid"
        )

    def prepare(self, handshake: Handshake) -> Coroutine[Any, Any, AnsweredHandshake] | None:
        """What to await before :meth:`authenticate`; see :data:`trunkline.hub.principal.Prepare`."""
        token = handshake.token
        if self.async_hook is None or (token is not None and len(token) > MAX_TOKEN_CHARS):
            return None
        try:
            known = token is not None and self._known(token) is not None
        except RpcError:
            return None
        return None if known else self.async_hook.answer(handshake)

    @staticmethod
    def _answered(handshake: Handshake) -> Principal:
        """The hook of :meth:`authenticate` where it is an :class:`AsyncHook`, which was asked before."""
        if not isinstance(handshake, AnsweredHandshake):
            raise RpcError(ErrorCode.INTERNAL_ERROR, "the authenticate hook was not asked")
        if isinstance(handshake.answer, RpcError):
            raise copy(handshake.answer)  # with a traceback, which has this frame, that one would be a cycle
        return handshake.answer

    def act_as(self, gateway: Principal, named: ActAs) -> Principal:
        """The principal that a gateway acts as, with the rights that the tokens file gives one of that name.

        Raises:
            RpcError: 6002, the gateway may not; -32602, that is no principal.
        """
        require_gateway(gateway)
        known = None if self._tokens is None else self._tokens.named(named.principal, tenant_of(gateway, named))
        return self._roles.limited(act_as(gateway, named, known))

    def _known(self, token: str) -> Principal | None:
        if self._static is not None and hmac.compare_digest(_bytes(token), self._static):
            return _STATIC
        if self._tokens is not None and (principal := self._tokens.find(token)) is not None:
            return principal
        if self._jwt is not None and looks_like_jwt(token):
            try:
                return self._jwt.principal(token, self._roles)
            except UnknownKeyError as error:
                if not self.ask_keys(error.kid):
                    raise
                words = "the JWT is signed with a key that this hub does not have yet; it looks for it: try again"
                raise RpcError(
                    ErrorCode.WORKER_UNAVAILABLE, words, maybe_executed=False, retry_after_ms=RETRY_MS
                ) from None
        return None

    @property
    def _roles(self) -> Roles:
        return Roles() if self._tokens is None else self._tokens.roles

    def reload(self) -> Revocation:
        """Read the files again: tokens, roles, keys.

        Returns:
            Which of the principals that authenticated before have to be disconnected.

        Raises:
            ValueError: a file cannot be used; everything stays as it was.
        """
        before = self._roles
        tokens = None if self._tokens_path is None else TokensFile.load(self._tokens_path)
        jwt = None if self._jwt_options is None else JwtTokens(self._jwt_options, self._key_set)
        self._tokens, self._jwt = tokens, jwt
        if self.async_hook is not None:
            self.async_hook.clear()
        return Revocation(tokens, before.changed(self._roles), not before.same_defaults(self._roles), jwt)

    def use_key_set(self, text: str) -> Revocation:
        """Verify JWTs with another key set from the URL of the settings from now on.

        Returns, raises:
            As :meth:`reload`.
        """
        assert self._jwt_options is not None
        self._jwt, self._key_set = JwtTokens(self._jwt_options, text), text
        return Revocation(self._tokens, frozenset(), False, self._jwt)

    def has_kid(self, kid: str) -> bool:
        """Whether a key that JWTs are verified with is called so."""
        return self._jwt is not None and self._jwt.has_kid(kid)


@dataclass(frozen=True, slots=True)
class Revocation:
    """What a reload means for principals that authenticated before it.

    Called with a principal, it returns whether that has to be disconnected: because its entry is gone, grants other
    rights or ends sooner, because it holds a role by JWT that is defined differently now, or because others are the
    rights of those to whom nothing is granted, or because the key of its JWT is gone.
    """

    _tokens: TokensFile | None
    _changed_roles: frozenset[str]
    _other_defaults: bool
    _jwt: JwtTokens | None

    def __call__(self, principal: Principal) -> bool:
        """Whether a principal's rights have changed."""
        if principal.key and self._jwt is not None and not self._jwt.has_key(principal.key):
            return True
        if principal.credential.startswith(JWT_CREDENTIAL):
            return self._other_defaults or bool(principal.roles & self._changed_roles)
        if principal.credential == HOOK_CREDENTIAL:
            return self._other_defaults
        return self._tokens is not None and self._tokens.revoked(principal)

    def is_final(self, principal: Principal) -> bool:
        """Whether a principal's entry is gone. Others may reconnect with the same token, and get their new rights."""
        return self._tokens is not None and self._tokens.removed(principal)


def _bytes(token: str) -> bytes:
    return token.encode("utf-8", "surrogatepass")
