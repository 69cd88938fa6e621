"""An authority of certificates, of the tests' own."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

NOW: Final = datetime.datetime.now(datetime.UTC).replace(microsecond=0)


_SIGNS: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Pair(NamedTuple):
    """The files of a certificate and its key, and when the certificate ends, in seconds since 1970."""

    certificate: Path
    key: Path
    ends: float


class Authority:
    """An authority whose files are in a folder.

    Attributes:
        certificate: the file of its own certificate.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        made = _certificate(self._name, self._name, self._key, 3650).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        # Python 3.13 wants an authority's certificate to say so, and others to say whose key they are signed with.
        made = made.add_extension(_SIGNS, critical=True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        self._signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def pair(self, name: str = "hub", *, days: float = 90.0, password: str | None = None) -> Pair:
        """A certificate of 127.0.0.1 and ``localhost`` with this common name, and its key; written anew each time."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(_named(name), self._name, key, days).add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        signed = made.add_extension(self._signer, critical=False).sign(self._key, hashes.SHA256())
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key", signed.not_valid_after_utc.timestamp())
        pair.certificate.write_bytes(signed.public_bytes(Encoding.PEM))
        encryption: KeySerializationEncryption = NoEncryption()
        if password is not None:
            encryption = BestAvailableEncryption(password.encode())
        pair.key.touch(0o600)
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return pair

    def trusting(self, own: Pair | None = None) -> ssl.SSLContext:
        """The TLS of a client that trusts this authority, with a certificate of its own or without."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if own is not None:
            context.load_cert_chain(own.certificate, own.key)
        return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer,
        subject,
        key.public_key(),
        x509.random_serial_number(),
        NOW - datetime.timedelta(days=400),
        NOW + datetime.timedelta(days=days),
    )
