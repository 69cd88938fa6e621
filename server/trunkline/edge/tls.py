"""TLS at the hub's port: the certificate, its key, and the authorities of clients' certificates, which files hold.

The files are read again without a restart; handshakes that begin then use what they hold, open connections go on.
"""

from __future__ import annotations

import logging
import re
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

DAY: Final = 86_400.0

WARN_DAYS: Final = 14
"""Days before a certificate ends from which on health, and the log at the start, warn."""

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17

logger = logging.getLogger("trunkline.edge")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of TLS.

    Attributes:
        certificate: PEM of the hub's certificate, then of those between it and an authority that clients know.
        key: PEM of its private key; None where the file of the certificate has it.
        key_password: a file whose first line decrypts the key; None where it is not encrypted.
        client_ca: PEM of the authorities whose certificates clients may have; None where no client is asked for one.
        client_required: whether a client without a certificate is refused.
    """

    certificate: Path
    key: Path | None = None
    key_password: Path | None = None
    client_ca: Path | None = None
    client_required: bool = True


class Tls:
    """TLS of one hub, as its files had it when they were read last.

    Attributes:
        context: for handshakes that begin now.
        ends: when the certificate ends, in seconds since 1970.

    Raises:
        ValueError: the files cannot be used; the message names the one that is wrong.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self.context = _context(files)
        self.ends = _ends(files.certificate)
        if files.key is not None or files.key_password is not None:
            _warn_of_readers(files.key_password or files.key or files.certificate)
        self._log("TLS certificate")

    def reload(self) -> None:
        """Read the files again, for handshakes that begin from now on.

        Raises:
            ValueError: they cannot be used; everything stays as it was.
        """
        context, ends = _context(self._files), _ends(self._files.certificate)
        self.context, self.ends = context, ends
        self._log("TLS certificate read again")

    def expiring(self) -> list[str]:
        """That the certificate ends soon, or has ended, in words; empty where it lasts."""
        left = (self.ends - time.time()) / DAY
        if left > WARN_DAYS:
            return []
        when = f"ends in {left:.1f} days" if left > 0 else f"ended {-left:.1f} days ago"
        return [f"the TLS certificate {self._files.certificate} {when}: replace the file, then send SIGHUP"]

    def _log(self, words: str) -> None:
        said = {
            "path": str(self._files.certificate),
            "ends": datetime.fromtimestamp(self.ends, UTC).isoformat(),
            "days": round((self.ends - time.time()) / DAY, 1),
        }
        logger.info(words, extra=said)
        for warning in self.expiring():
            logger.warning(warning)


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _read(files.certificate)
    key = files.key or files.certificate
    _read(key)
    password = None if files.key_password is None else _read(files.key_password).splitlines()[:1]
    try:
        context.load_cert_chain(files.certificate, key, lambda: _refuse(key) if not password else password[0])
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"{files.certificate} and {key}: {_words(error)}") from None
    if files.client_ca is not None:
        _read(files.client_ca)
        try:
            context.load_verify_locations(files.client_ca)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"{files.client_ca}: {_words(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED if files.client_required else ssl.CERT_OPTIONAL
    return context


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not PEM, which is text") from None


def _refuse(key: Path) -> NoReturn:
    # Without this, OpenSSL would ask at the terminal.
    raise ValueError(f"{key}: is encrypted: name the file of its password in TRUNKLINE_TLS_KEY_PASSWORD_FILE")


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        wrong = {"KEY_VALUES_MISMATCH": "the key is not that of the certificate"}
        return wrong.get(error.reason or "", f"cannot be used ({error.reason or error.strerror or 'no PEM'})")
    return error.strerror or str(error)


def _warn_of_readers(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        logger.warning("other users can read the key of TLS; run chmod 600 on it", extra={"path": str(path)})


# --- when a certificate ends (RFC 5280, 4.1) ---


def _ends(path: Path) -> float:
    """When the first certificate of a file ends, in seconds since 1970."""
    found = _CERTIFICATE.search(_read(path))
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(found[0] if found else ""))
    except (ValueError, IndexError):
        raise ValueError(f"{path}: has no certificate in PEM") from None


def _not_after(der: bytes) -> float:
    """``notAfter`` of a certificate."""
    at = _element(der, _element(der, 0)[1])[1]  # into Certificate, and into TBSCertificate
    if der[at] == _VERSION:
        at = _element(der, at)[2]
    for _serial_algorithm_issuer in range(3):
        at = _element(der, at)[2]
    not_before = _element(der, at)[1]
    tag, begin, end = _element(der, _element(der, not_before)[2])
    pattern = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(der[begin:end].decode(), pattern).replace(tzinfo=UTC).timestamp()


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """The tag of the element at an offset, and where its content begins and ends."""
    tag, size, begin = der[at], der[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        size, begin = int.from_bytes(der[begin : begin + count], "big"), begin + count
    return tag, begin, begin + size
