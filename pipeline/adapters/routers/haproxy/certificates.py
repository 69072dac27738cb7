"""A local authority, and the wildcard certificate that it signs for a base domain where nobody gave one."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pipeline.clients.router_files import locked_in, write_whole

#: Browsers take no certificate that lives longer (CA/Browser Forum ballot SC22).
LIFE = dt.timedelta(days=397)
#: One that ends sooner is made anew at the next start.
LEFT = dt.timedelta(days=60)
AUTHORITY_LIFE = dt.timedelta(days=3650)


def certificate_in(home: Path, domain: str, now: float) -> Path:
    """A PEM file for the domain and every name right below it; `home`/ca.pem is what visitors have to trust."""
    at = dt.datetime.fromtimestamp(now, dt.UTC)
    place = home / f"{domain}.pem"
    with locked_in(home):
        if not place.exists() or _ends(place) - at < LEFT:
            key, authority = _authority(home, at)
            write_whole(place, _signed(domain, key, authority, at))
    return place


def _ends(place: Path) -> dt.datetime:
    return x509.load_pem_x509_certificate(place.read_bytes()).not_valid_after_utc


def _authority(home: Path, at: dt.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    file, public = home / "ca.key.pem", home / "ca.pem"
    if not file.exists():
        write_whole(file, _made_authority(at))
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  # `_made_authority` wrote it
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    write_whole(public, _pem(certificate))
    return key, certificate


def _made_authority(at: dt.datetime) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Greenroom's local authority")
    builder = _builder(name, name, key, at, AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _pem(builder.sign(key, hashes.SHA256())) + _key_pem(key)


def _signed(domain: str, issuer: ec.EllipticCurvePrivateKey, authority: x509.Certificate, at: dt.datetime) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName(domain), x509.DNSName(f"*.{domain}")]
    builder = _builder(_name(domain[:64]), authority.subject, key, at, LIFE)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    builder = builder.add_extension(usage, critical=False)
    return _pem(builder.sign(issuer, hashes.SHA256())) + _key_pem(key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    at: dt.datetime,
    life: dt.timedelta,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    # A day back: clocks of visitors differ.
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(at - dt.timedelta(days=1))
        .not_valid_after(at + life)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, kind, serialization.NoEncryption()).decode()
