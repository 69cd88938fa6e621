"""The rules of ``trunkline doctor --security``. Pure: settings and facts in, findings out; none shows a secret."""

from __future__ import annotations

import ipaddress
import math
import os
import re
import stat
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from trunkline.cli.security.facts import Facts, FileFact

if TYPE_CHECKING:
    from trunkline.config import Settings

Severity = Literal["high", "medium", "low"]
SEVERITIES: Final[tuple[Severity, ...]] = ("high", "medium", "low")

BITS: Final = 100
"""Of a secret that cannot be guessed; ``trunkline token`` makes 256. An estimate may miss some of 128."""

WEAK_BITS: Final = 64
"""Below which guessing is a matter of time and money."""

YEAR: Final = 366 * 86400.0

_SECRET_NAME: Final = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)S?$", re.IGNORECASE)
_GUESSED: Final = re.compile(
    r"secret|passw|token|change|admin|default|example|trunkline|letmein|test|demo|qwert|12345|abcde", re.IGNORECASE
)
_WIDE: Final = {4: 16, 6: 48}
"""Bits of the prefix below which a network has more machines than one has proxies, by version of IP."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that makes the hub less safe.

    Attributes:
        code: what it is called; stays the same from release to release.
        what: what was found.
        why: what somebody gains by it.
        remedy: the setting or command that ends it.
    """

    severity: Severity
    code: str
    what: str
    why: str
    remedy: str


Rule = Callable[["Settings", Facts], Iterator[Finding]]


def judge(settings: Settings, facts: Facts) -> list[Finding]:
    """All findings, the worst first."""
    found = [finding for rule in RULES for finding in rule(settings, facts)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def bits_of(secret: str) -> float:
    """An estimate from above of how many bits of a secret have to be guessed.

    Words that people use add nothing, nor does the third of characters that repeat or count (``aaaa``, ``1234``). The
    others count as drawn from the kinds of characters that there are, where they are as different as that makes them.
    """
    rest = _GUESSED.sub("", secret)
    kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits, string.punctuation)
    alphabet = min(sum(len(kind) for kind in kinds if set(kind) & set(rest)) or 1, 2 * len(set(rest)))
    steps = [ord(after) - ord(before) for before, after in pairwise(rest)]
    idle = sum(step == former and abs(step) <= 1 for former, step in pairwise(steps))
    return (len(rest) - idle) * math.log2(max(1, alphabet))


# --- who gets in ---


def _no_credentials(settings: Settings, _facts: Facts) -> Iterator[Finding]:
    if settings.authenticates:
        return
    remedy = "trunkline token NAME >> tokens.toml, then TRUNKLINE_TOKENS_FILE=tokens.toml"
    if _has_tcp(settings):
        yield Finding(
            "medium",
            "no-credentials",
            f"no credentials are asked for at {settings.host}",
            "every program and every user of this machine may call methods, read events and delete collections",
            f"{remedy}; or a Unix socket of mode 600 alone: TRUNKLINE_UDS=hub.sock",
        )
    if (settings.uds or settings.uds_framed) and settings.uds_mode & 0o077:
        yield Finding(
            "medium",
            "open-socket",
            f"no credentials are asked for at a Unix socket of mode {settings.uds_mode:o}",
            "other users of this machine may do everything",
            f"TRUNKLINE_UDS_MODE=600; or {remedy}",
        )


def _weak_secrets(settings: Settings, _facts: Facts) -> Iterator[Finding]:
    if settings.token is not None:
        yield from _weak("static token", "TRUNKLINE_TOKEN", settings.token.get_secret_value(), "trunkline token")
    key = settings.jwt_key.get_secret_value() if settings.jwt_key is not None else ""
    if not key or "-----BEGIN" in key:
        return
    yield from _weak("HMAC key of JWTs", "TRUNKLINE_JWT_KEY", key, "openssl rand -base64 48")
    if len(key.encode()) < 32:
        yield Finding(
            "high",
            "short-jwt-key",
            "the HMAC key of JWTs has fewer than 32 bytes",
            "with one token somebody can try keys without asking the hub, and then sign tokens of any principal",
            "TRUNKLINE_JWT_KEY=$(openssl rand -base64 48), at the issuer, too",
        )
    yield Finding(
        "low",
        "jwt-hmac",
        "JWTs are verified with the secret that signs them",
        "who can read the hub's settings can make tokens of any principal",
        "sign with RS256, ES256 or EdDSA, and give the hub the public key: TRUNKLINE_JWT_KEYS_FILE or _KEYS_URL",
    )


def _weak(what: str, setting: str, secret: str, maker: str) -> Iterator[Finding]:
    bits = bits_of(secret)
    if bits < BITS:
        yield Finding(
            "high" if bits < WEAK_BITS else "medium",
            "weak-secret",
            f"the {what} can be guessed: it has at most some {bits:.0f} bits",
            "who guesses it has all rights that it gives",
            f"a random one in {setting}: {maker}",
        )


def _tokens(settings: Settings, facts: Facts) -> Iterator[Finding]:
    where = f"in {settings.tokens_file}, then SIGHUP"
    expired = [each.name for each in facts.tokens if each.expires is not None and each.expires <= facts.now]
    if expired:
        yield Finding(
            "low",
            "expired-tokens",
            f"expired tokens: {_some(expired)}",
            "nobody gets in by them, but they hide which tokens there are",
            f"remove these entries {where}",
        )
    late = facts.now + YEAR
    lasting = [each for each in facts.tokens if each.expires is None or each.expires > late]
    if lasting:
        yield Finding(
            "medium" if any(each.is_admin for each in lasting) else "low",
            "lasting-tokens",
            f"tokens that never expire, or in more than a year: {_some([each.name for each in lasting])}",
            "one that leaks unnoticed is of use forever",
            f"expires = 2027-01-31T00:00:00Z {where}",
        )


def _granted(settings: Settings, facts: Facts) -> Iterator[Finding]:
    unlimited = [each.name for each in facts.tokens if not each.is_limited and not each.is_admin]
    remedy = 'deny_by_default = true in the tokens file, and roles with methods = ["..."]'
    if unlimited:
        yield Finding(
            "medium",
            "everything-granted",
            f"every method is granted to: {_some(unlimited)}",
            "each of these tokens can read and delete what the others keep",
            remedy,
        )
    if (settings.verifies_jwts or settings.authenticate) and facts.unstated_is_granted:
        yield Finding(
            "medium",
            "default-is-everything",
            "who gets in by a JWT or by the hook, without roles and patterns, may do everything",
            "a token of the issuer that was made for something else is enough",
            f"{remedy}; default_role for those without one",
        )


def _hook(settings: Settings, _facts: Facts) -> Iterator[Finding]:
    if settings.authenticate is not None:
        yield Finding(
            "low",
            "hook",
            f"{settings.authenticate} decides who gets in",
            "it runs in the hub's process; nothing here can say whom it lets in",
            "read it: does it compare in constant time, bound its own time, and refuse where it does not know?",
        )


# --- from where ---


def _plaintext(settings: Settings, _facts: Facts) -> Iterator[Finding]:
    has_tls = settings.tls_certificate is not None
    if not settings.is_loopback and _has_tcp(settings) and not settings.trusted_proxies and not has_tls:
        yield Finding(
            "high",
            "no-tls",
            f"{settings.host} can be reached from other machines, without TLS and without a proxy that is known",
            "tokens and data can be read and changed on the network",
            "bind 127.0.0.1 behind a proxy with TLS (docs/production.md), and name it: TRUNKLINE_TRUSTED_PROXIES",
        )


def _origins(settings: Settings, _facts: Facts) -> Iterator[Finding]:
    if "*" in settings.allowed_origins:
        yield Finding(
            "medium" if settings.authenticates else "high",
            "any-origin",
            "web pages of any origin may connect (allowed_origins *)",
            "each page that somebody opens on a machine that reaches the hub can talk to it",
            "TRUNKLINE_ALLOWED_ORIGINS=https://app.example.com",
        )


def _proxies(settings: Settings, _facts: Facts) -> Iterator[Finding]:
    networks = [ipaddress.ip_network(each, strict=False) for each in settings.trusted_proxies]
    wide = [network for network in networks if network.prefixlen < _WIDE[network.version]]
    if wide:
        yield Finding(
            "high" if any(network.prefixlen == 0 for network in wide) else "medium",
            "wide-proxies",
            f"X-Forwarded-For is believed from {_some([str(network) for network in wide])}",
            "who is in there chooses the address that limits, failed logins and the audit log go by",
            "TRUNKLINE_TRUSTED_PROXIES: the proxies' own addresses",
        )


def _limits(settings: Settings, facts: Facts) -> Iterator[Finding]:
    wanted = ["max_connections_per_principal", "max_calls_per_principal", "rate_limit"]
    if not settings.is_loopback or settings.trusted_proxies:
        wanted.append("max_connections_per_address")
    if len({each.tenant for each in facts.tokens}) > 1:
        wanted += ["max_connections_per_tenant", "max_calls_per_tenant", "rate_limit_per_tenant"]
    unlimited = [name for name in wanted if not getattr(settings, name)]
    if unlimited and settings.authenticates:
        yield Finding(
            "low",
            "no-limits",
            f"no limit is set: {', '.join(unlimited)}",
            "one client that runs wild, or one tenant, takes the places of all others",
            " ".join(f"TRUNKLINE_{name.upper()}=..." for name in unlimited),
        )
    if settings.authenticates and not settings.failed_logins:
        yield Finding(
            "medium",
            "unlimited-logins",
            "wrong tokens are never slowed down (failed_logins 0)",
            "somebody can try tokens as fast as the network carries them",
            "remove TRUNKLINE_FAILED_LOGINS",
        )


# --- files ---


SECRETS: Final = frozenset({"configuration file", "TLS key", "TLS key's password"})
"""Files that have secrets as they are, where they have any."""


def _files(settings: Settings, facts: Facts) -> Iterator[Finding]:
    for file in facts.files:
        yield from _writable(file, facts.user)
        if file.mode & 0o044 and (why := _secret_in(file, settings)):
            yield Finding(
                "high" if file.use in SECRETS else "medium",
                "readable-file",
                f"the {file.use} {file.path} can be read by other users of this machine (mode {file.mode:o})",
                why,
                f"chmod {'700' if file.use == 'data folder' else '600'} {file.path}",
            )


def _writable(file: FileFact, user: int) -> Iterator[Finding]:
    foreign = file.owner not in (user, 0)
    exchangeable = file.folder_mode & 0o022 and not file.folder_mode & stat.S_ISVTX
    if not (file.mode & 0o022 or foreign or exchangeable):
        return
    if foreign:
        what, remedy = f"belongs to the user id {file.owner}", f"chown {user} {file.path}"
    elif file.mode & 0o022:
        what, remedy = f"can be changed by other users (mode {file.mode:o})", f"chmod go-w {file.path}"
    else:
        what = f"is in a folder that others may write in (mode {file.folder_mode:o})"
        remedy = f"chmod go-w {Path(file.path).absolute().parent}"
    gain = {
        "audit file": "they can remove what they did",
        "data folder": "they can change what the hub stores and answers",
        "methods' folder": "what they put there runs as the hub's user",
    }.get(file.use, "they can give themselves every right")
    yield Finding("high", "writable-file", f"the {file.use} {file.path} {what}", gain, remedy)


def _secret_in(file: FileFact, settings: Settings) -> str | None:
    """What somebody gains who reads a file; None where it may be read."""
    if file.use == "configuration file":
        in_file = [name for name in ("token", "jwt_key", "llm_api_key") if settings.origins.get(name) == "file"]
        if settings.origins.get("llm_endpoints") == "file" and any(each.api_key for each in settings.llm_endpoints):
            in_file.append("api_key of llm_endpoints")
        if any(group.env for group in settings.groups.values()):
            in_file.append("env of groups")
        if in_file:
            return f"it has secrets: {', '.join(in_file)}"
        return None
    return {
        "tokens file": "it says who there is, with which rights; tokens that somebody chose can be tried against it",
        "data folder": "it has everybody's collections and jobs",
        "audit file": "it says who called what, and when",
        "TLS key": "who has it can pass for this hub",
        "TLS key's password": "who has it, and the key, can pass for this hub",
    }.get(file.use)


def _documents(settings: Settings, _facts: Facts) -> Iterator[Finding]:
    kept = {
        "configuration file": settings.file, "tokens file": settings.tokens_file, "JWT keys": settings.jwt_keys_file,
        "TLS key": settings.tls_key or settings.tls_certificate, "TLS key's password": settings.tls_key_password_file,
        "data folder": settings.data, "audit file": settings.audit_file,
    }  # fmt: skip
    for part in (settings.documents_root or "").split(os.pathsep):
        if not part:
            continue
        root = Path(os.path.abspath(Path(part).expanduser()))
        inside = [use for use, path in kept.items() if path is not None and path.absolute().is_relative_to(root)]
        if root == Path(root.anchor) or inside:
            what = f": with {_some(inside)} in it" if inside else ""
            yield Finding(
                "high",
                "documents-root",
                f"documents.process may read below {root}{what}",
                "who may call it reads keys, tokens or everybody's data by putting them into a collection",
                "TRUNKLINE_DOCUMENTS_ROOT: a folder that has the documents alone",
            )


# --- the process ---


def _process(settings: Settings, facts: Facts) -> Iterator[Finding]:
    if facts.user == 0:
        yield Finding(
            "high",
            "root",
            "the hub runs as root",
            "methods, models and the libraries that read documents may do everything on this machine",
            "a user of its own: User=trunkline in the unit (docs/production.md)",
        )
    if facts.core_limit not in (0, 1) and settings.secrets:
        yield Finding(
            "low",
            "core-files",
            "a hub that crashes may write a core file",
            "it has tokens, keys and what was in calls; executors write none",
            "LimitCORE=0 in the unit, or ulimit -c 0 before trunkline serve",
        )


def _debug(settings: Settings, _facts: Facts) -> Iterator[Finding]:
    if settings.debug:
        yield Finding(
            "medium" if settings.is_loopback and not settings.trusted_proxies else "high",
            "debug",
            "tracebacks go to callers (debug)",
            "they have paths, names and values of the methods' code",
            "remove TRUNKLINE_DEBUG: the log has them, by the id that the error names",
        )


def _environment(settings: Settings, _facts: Facts) -> Iterator[Finding]:
    wide = [name for name in settings.executor_env if name.endswith("*") and len(name) < 4]
    secret = [name for name in settings.executor_env if _SECRET_NAME.search(name.rstrip("*_"))]
    if wide or secret:
        yield Finding(
            "medium" if wide else "low",
            "executor-environment",
            f"executors get {_some([*wide, *secret])} of the hub's environment",
            "all methods, what they start, and what they print in a crash have these variables",
            "TRUNKLINE_EXECUTOR_ENV: names, not prefixes; a secret of one group in its env",
        )


def _audit(settings: Settings, _facts: Facts) -> Iterator[Finding]:
    if settings.authenticates and settings.audit_file is None:
        yield Finding(
            "low",
            "no-audit",
            "nobody can say afterwards who called what (no audit_file)",
            "an intruder leaves no trace but the log's",
            "TRUNKLINE_AUDIT_FILE=/var/log/trunkline/audit.jsonl",
        )


def _outgoing(settings: Settings, _facts: Facts) -> Iterator[Finding]:
    prompts = "prompts, with the passages that they cite, and the key"
    for name, url, what in (
        ("llm_base_url", settings.llm_base_url, prompts),
        *(("llm_endpoints", each.base_url, prompts) for each in settings.llm_endpoints),
        ("otlp_endpoint", settings.otlp_endpoint, "traces, with the names of methods and principals"),
    ):
        parts = urlsplit(url or "")
        if parts.scheme == "http" and not _is_local(parts.hostname or ""):
            yield Finding(
                "medium" if what is prompts else "low",
                "outgoing-plaintext",
                f"{name} is http:// to another machine",
                f"{what} can be read on the network",
                f"an https:// URL in TRUNKLINE_{name.upper()}",
            )


def _unknown(_settings: Settings, facts: Facts) -> Iterator[Finding]:
    for words in facts.unknown:
        yield Finding(
            "medium",
            "not-checked",
            f"not checked: {words}",
            "what is not looked at may be wrong",
            "run this as the hub's user, with its --config and variables",
        )


RULES: Final[tuple[Rule, ...]] = (
    _no_credentials, _weak_secrets, _tokens, _granted, _hook, _plaintext, _origins, _proxies, _limits, _files,
    _documents, _process, _debug, _environment, _audit, _outgoing, _unknown,
)  # fmt: skip


def _has_tcp(settings: Settings) -> bool:
    return settings.port is not None or (settings.uds is None and settings.uds_framed is None)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(dict.fromkeys(names[:5])) + more
