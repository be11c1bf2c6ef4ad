import stat

import pytest

from umbel.base import ConfigError, NotAuthenticated
from umbel.deployment.certificates import Principal, make_request, new_key
from umbel.deployment.identity import Identity, joining_key


@pytest.fixture
def identity(authority) -> Identity:
    key = new_key()
    cert = authority.sign_request(make_request(key), Principal("node", "3"), 30)
    return Identity(key, cert, authority.ca_pem, "fl.example.org:9050")


def test_an_identity_is_loaded_as_it_was_saved(identity, tmp_path):
    identity.save(tmp_path / "node")
    assert Identity.load(tmp_path / "node") == identity
    assert identity.principal == Principal("node", "3")
    assert stat.S_IMODE((tmp_path / "node" / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "node").stat().st_mode) == 0o700


def test_no_log_shows_a_key(identity):
    assert repr(identity) == "Identity(address='fl.example.org:9050')"


def test_an_expired_certificate_is_told_before_the_handshake(identity, clock):
    identity.check_valid(clock.now())
    clock.advance(31 * 86_400)
    with pytest.raises(NotAuthenticated, match=r"expired on 2027-02-14 08:00 UTC .*umbel token"):
        identity.check_valid(clock.now())


def test_an_empty_folder_says_how_to_join(tmp_path):
    with pytest.raises(ConfigError, match=r"no identity here .*umbel token create"):
        Identity.load(tmp_path)


@pytest.mark.parametrize("writes", range(4))
def test_a_crash_while_saving_leaves_a_folder_that_can_join_again(
    writes, identity, authority, tmp_path, monkeypatch
):
    import umbel.deployment.identity as module

    identity.save(tmp_path)
    key = new_key()
    cert = authority.sign_request(make_request(key), Principal("node", "4"), 30)
    again = Identity(key, cert, authority.ca_pem, identity.address)
    write, done = module.write_atomically, []

    def crash_after(*args, **kwargs):
        if len(done) == writes:
            raise KeyboardInterrupt
        write(*args, **kwargs)
        done.append(args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", crash_after)
        with pytest.raises(KeyboardInterrupt):
            again.save(tmp_path)
    with pytest.raises(ConfigError, match="joining was not finished"):
        Identity.load(tmp_path)
    again.save(tmp_path)
    assert Identity.load(tmp_path) == again


def test_key_and_certificate_belong_together(identity, tmp_path):
    identity.save(tmp_path)
    (tmp_path / "key.pem").write_bytes(new_key())
    with pytest.raises(ConfigError, match="do not belong together"):
        Identity.load(tmp_path)
    (tmp_path / "key.pem").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        Identity.load(tmp_path)


def test_an_attempt_to_join_is_repeated_with_its_own_key(identity, authority, clock, tmp_path):
    identity.save(tmp_path)
    key = joining_key(tmp_path, authority.ca_pem, clock.now())
    assert joining_key(tmp_path, authority.ca_pem, clock.now()) == key != identity.key_pem
    assert Identity.load(tmp_path) == identity  # still good until the next one is there
    cert = authority.sign_request(make_request(key), Principal("node", "3"), 30)
    Identity(key, cert, authority.ca_pem).save(tmp_path)
    assert joining_key(tmp_path, authority.ca_pem, clock.now()) != key


@pytest.mark.parametrize(("days", "ca"), [(31, None), (0, b"of another authority")])
def test_who_is_good_no_more_joins_with_the_old_key(days, ca, identity, clock, tmp_path):
    identity.save(tmp_path)
    clock.advance(days * 86_400)
    assert joining_key(tmp_path, ca or identity.ca_pem, clock.now()) == identity.key_pem


def test_an_unfinished_attempt_is_told(authority, clock, tmp_path):
    joining_key(tmp_path, authority.ca_pem, clock.now())
    with pytest.raises(ConfigError, match="joining was not finished"):
        Identity.load(tmp_path)
