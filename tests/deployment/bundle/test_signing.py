import json
import re

import pytest

from umbel.base import BadSignature, ConfigError
from umbel.deployment.bundle import new_signing_key, public_key, sign, verify
from umbel.deployment.certificates import new_key

BUNDLE = b"an app"


@pytest.fixture(scope="module")
def key() -> bytes:
    return new_signing_key()


def test_a_trusted_signature_is_good(key):
    others = [public_key(new_signing_key()) for _ in range(2)]
    verify(BUNDLE, sign(BUNDLE, key), [others[0], public_key(key), others[1]])


def test_a_signature_is_json_with_the_keys_short_form(key):
    fields = json.loads(sign(BUNDLE, key))
    assert set(fields) == {"key", "signature"}
    assert fields["key"] == public_key(key)
    assert re.fullmatch(r"ed25519:[A-Za-z0-9+/]{43}=", public_key(key))


@pytest.mark.parametrize("trusts_another", [True, False])
def test_a_key_that_is_not_trusted_is_named(trusts_another, key):
    trusted = [public_key(new_signing_key())] if trusts_another else []
    with pytest.raises(BadSignature) as caught:
        verify(BUNDLE, sign(BUNDLE, key), trusted)
    assert caught.value.hint.endswith(f"--trust {public_key(key)}")
    assert caught.value.context["trusted"] == (trusted[0] if trusted else "none")


def test_another_bundle_is_refused(key):
    with pytest.raises(BadSignature, match=re.escape(f"not what {public_key(key)} has signed")):
        verify(b"another app", sign(BUNDLE, key), [public_key(key)])


def test_a_signature_under_another_name_is_refused(key):
    thief = new_signing_key()
    fields = json.loads(sign(BUNDLE, thief)) | {"key": public_key(key)}
    with pytest.raises(BadSignature, match="not what ed25519"):
        verify(BUNDLE, json.dumps(fields), [public_key(key)])


@pytest.mark.parametrize("signature", ["", " \n"])
def test_an_unsigned_bundle_is_told(signature, key):
    with pytest.raises(BadSignature, match="is not signed"):
        verify(BUNDLE, signature, [public_key(key)])


@pytest.mark.parametrize(
    "signature",
    [
        "hello",
        "[]",
        "{}",
        "3",
        '{"key": 3, "signature": "AA"}',
        '{"key": "ed25519:AAAA", "signature": "AAAA"}',
        '{"key": "rsa:AAAA", "signature": "AAAA"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_signature_is_refused(signature, key):
    with pytest.raises(BadSignature, match="cannot be read"):
        verify(BUNDLE, signature, [public_key(key)])


@pytest.mark.parametrize("trusted", ["", "alice", "ed25519:", "ed25519:AAAA", "ed25519:é"])
def test_what_is_no_key_to_trust_is_said(trusted, key):
    with pytest.raises(ConfigError, match="is no public key"):
        verify(BUNDLE, sign(BUNDLE, key), [trusted])


def test_what_is_no_key_to_sign_with_is_said():
    with pytest.raises(ConfigError, match="not a private key"):
        sign(BUNDLE, b"hello")
    with pytest.raises(ConfigError, match="of another kind"):
        public_key(new_key())
