import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from umbel.base import ConfigError, NotAuthenticated, TokenExpired, UmbelError, VersionMismatch
from umbel.deployment.certificates import (
    Principal,
    belong_together,
    principal_of,
    valid_until,
)
from umbel.deployment.tokens import GRACE_DAYS, JoinToken, create_token, grant_of

ADDRESSES = ["fl.example.org:9050", "[::1]:9050"]


@pytest.fixture
def token(authority, clock) -> JoinToken:
    return create_token(authority, "user", ADDRESSES, 3600, name="alice", clock=clock)


def changed(token: JoinToken, **fields) -> str:
    payload = token.encode().removeprefix("umbel1.")
    document = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    text = json.dumps(document | fields).encode()
    return "umbel1." + base64.urlsafe_b64encode(text).decode()


def test_a_token_is_read_as_it_was_made(token, clock):
    text = token.encode()
    assert JoinToken.decode(text) == token
    assert (token.role, token.name, token.addresses) == ("user", "alice", tuple(ADDRESSES))
    assert token.expires_at == clock.now() + 3600
    assert text.startswith("umbel1.")
    assert len(text) < 2_500
    assert "=" not in text


def test_a_token_carries_what_mutual_tls_asks_for(token, authority):
    assert token.ca_pem == authority.ca_pem
    assert belong_together(token.key_pem, token.cert_pem)
    assert principal_of(token.cert_pem) == Principal("join", token.token_id)
    assert valid_until(token.cert_pem) == token.expires_at + GRACE_DAYS * 86_400


def test_what_a_token_grants_stands_in_its_certificate(token, clock):
    grant = grant_of(principal_of(token.cert_pem))
    assert (grant.token_id, grant.role, grant.name) == (token.token_id, "user", "alice")
    assert grant.expires_at == token.expires_at
    grant.check_fresh(clock.now())
    assert not grant.expired(clock.now() + 3600)
    assert not token.expired(clock.now() + 3600)
    assert token.expired(clock.now() + 3601)
    with pytest.raises(TokenExpired, match=r"expired on 2027-01-15 09:00 UTC \(token: user"):
        grant.check_fresh(clock.now() + 3601)


def test_a_node_is_named_by_the_server_unless_told(authority, clock):
    token = create_token(authority, "node", ADDRESSES, 60, clock=clock)
    assert grant_of(principal_of(token.cert_pem)).name is None
    named = create_token(authority, "node", ADDRESSES, 60, name="ward.7", clock=clock)
    assert grant_of(principal_of(named.cert_pem)).name == "ward.7"
    assert token.token_id != named.token_id


@pytest.mark.parametrize(
    "principal", ["node/3", "user/alice", "join/abc", "join/root.1.0123456789abcdef", "join/x.y"]
)
def test_only_a_tokens_bearer_may_ask_for_a_certificate(principal):
    with pytest.raises(NotAuthenticated, match="umbel token create"):
        grant_of(Principal.parse(principal))


def test_a_token_in_a_file_and_one_from_an_e_mail(token, tmp_path):
    text = token.encode()
    (tmp_path / "token").write_text(f"{text}\n")
    assert JoinToken.decode(f"@{tmp_path / 'token'}") == token
    broken = "\r\n  ".join(text[start : start + 70] for start in range(0, len(text), 70))
    assert JoinToken.decode(f" {broken}\n") == token
    with pytest.raises(ConfigError, match="file cannot be read"):
        JoinToken.decode(f"@{tmp_path / 'none'}")


def test_no_log_shows_the_key(token):
    assert token.token_id in repr(token)
    assert "PRIVATE" not in repr(token)


@pytest.mark.parametrize("text", ["", "hello", "umbel1", "@", "eyJhIjoxfQ.eyJhIjoxfQ"])
def test_what_is_no_token(text):
    with pytest.raises(ConfigError):
        JoinToken.decode(text)


def test_another_version_says_so(token):
    with pytest.raises(VersionMismatch, match="umbel2, this release reads umbel1"):
        JoinToken.decode(token.encode().replace("umbel1", "umbel2"))


@pytest.mark.parametrize(
    "fields",
    [
        {"at": []},
        {"at": 3},
        {"at": ["nowhere"]},
        {"id": "abc"},
        {"id": None},
        {"ca": "???"},
        {"ca": None},
        {"key": 7},
    ],
)
def test_a_changed_token_is_refused(fields, token):
    with pytest.raises(ConfigError, match="cut short or was changed"):
        JoinToken.decode(changed(token, **fields))


def test_every_shortened_token_is_refused(token):
    text = token.encode()
    for length in range(len("umbel1."), len(text) - 1):
        with pytest.raises(ConfigError, match="cut short"):
            JoinToken.decode(text[:length])


@given(st.text())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_token_or_an_error_that_teaches(text):
    for candidate in (text, f"umbel1.{text}"):
        with pytest.raises(UmbelError):
            JoinToken.decode(candidate)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ttl_s": 0}, "cannot be valid"),
        ({"ttl_s": float("inf")}, "cannot be valid"),
        ({"addresses": []}, "needs an address"),
        ({"addresses": ["localhost"]}, "no address"),
        ({"role": "user"}, "needs a name"),
        ({"role": "join"}, "already"),
        ({"name": "a b"}, "cannot name"),
        ({"name": "a" * 65}, "longer than 64"),
    ],
)
def test_what_cannot_be_granted(change, words, authority, clock):
    arguments = {"role": "node", "addresses": ADDRESSES, "ttl_s": 60, "clock": clock}
    with pytest.raises((ConfigError, NotAuthenticated), match=words):
        create_token(authority, **arguments | change)
