import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from umbel.base import (
    BadSignature,
    ConfigError,
    MissingDependency,
    NotAuthenticated,
    ProtocolError,
)
from umbel.deployment.certificates import (
    Principal,
    belong_together,
    certified_key,
    key_fingerprint,
    load_key,
    make_request,
    new_key,
    principal_of,
    requested_key,
    valid_until,
)

PEM = serialization.Encoding.PEM


def certificate_with(names, clock):
    """A certificate of a stranger with these alternative names."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = datetime.fromtimestamp(clock.now(), UTC)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(PEM)


def uris(*texts):
    return [x509.UniformResourceIdentifier(text) for text in texts]


def pem_of(key) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.mark.parametrize("text", ["node/3", "user/alice@example.org", "admin/a", "join/node.1.a"])
def test_a_principal_is_written_and_read(text):
    principal = Principal.parse(text)
    assert str(principal) == text
    assert principal.uri == f"umbel:{text}"


@pytest.mark.parametrize(
    "text", ["", "node", "node/", "root/1", "user/a/b", "user/../a", "user/a b", "user/é", "/3"]
)
def test_what_names_nobody_is_refused(text):
    with pytest.raises(ConfigError):
        Principal.parse(text)


def test_one_uri_names_the_principal(clock):
    foreign = x509.DNSName("example.org")
    names = [*uris("spiffe://example.org/a", "umbel:user/alice"), foreign]
    assert principal_of(certificate_with(names, clock)) == Principal("user", "alice")


@pytest.mark.parametrize(
    "names",
    [
        [],
        uris("spiffe://example.org/a"),
        uris("umbel:node/3", "umbel:admin/eve"),
        uris("umbel:node/3", "umbel:node/3"),
        uris("umbel:root/1"),
        uris("umbel:node/3?admin"),
        [x509.DNSName("umbel:node/3".replace(":", ".").replace("/", "."))],
    ],
)
def test_a_certificate_that_does_not_name_one_principal_is_refused(names, clock):
    with pytest.raises(NotAuthenticated, match="certificate names"):
        principal_of(certificate_with(names, clock))


@pytest.mark.parametrize("pem", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_certificate_is_refused(pem):
    for read in (principal_of, certified_key, valid_until):
        with pytest.raises(NotAuthenticated, match="not a certificate"):
            read(pem)


def test_a_request_proves_its_key_and_names_nobody():
    key = new_key()
    request = make_request(key)
    assert requested_key(request) == load_key(key).public_key()
    assert not list(x509.load_pem_x509_csr(request).subject)


def test_a_request_signed_by_another_key_is_refused():
    honest = x509.load_pem_x509_csr(make_request(new_key()))
    other = load_key(new_key()).public_key()
    old, new = (
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for key in (honest.public_key(), other)
    )
    der = honest.public_bytes(serialization.Encoding.DER)
    assert old in der
    forged = x509.load_der_x509_csr(der.replace(old, new)).public_bytes(PEM)
    with pytest.raises(BadSignature, match="not signed by the key"):
        requested_key(forged)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), None])
def test_only_p256_is_taken(key):
    key = key or ed25519.Ed25519PrivateKey.generate()
    algorithm = hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, algorithm)
    with pytest.raises(ProtocolError, match="another kind of key"):
        requested_key(request.public_bytes(PEM))
    with pytest.raises(ConfigError, match="ECDSA P-256"):
        load_key(pem_of(key))


def test_garbage_is_neither_a_request_nor_a_key():
    with pytest.raises(ProtocolError, match="not a certificate request"):
        requested_key(b"hello")
    with pytest.raises(ConfigError, match="not a private key"):
        load_key(b"hello")


def test_what_a_certificate_says(authority, clock):
    key = new_key()
    cert = authority.sign_request(make_request(key), Principal("node", "3"), valid_days=2)
    assert valid_until(cert) == clock.now() + 2 * 86_400
    assert belong_together(key, cert)
    assert not belong_together(new_key(), cert)
    assert certified_key(cert) == key_fingerprint(make_request(key))


def test_without_cryptography_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.delitem(sys.modules, "cryptography.hazmat.primitives")
    with pytest.raises(MissingDependency, match=r"umbel\[deploy\]"):
        principal_of(b"")
