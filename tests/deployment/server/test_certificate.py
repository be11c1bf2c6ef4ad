"""The server's own certificate: renewed at its start and while it runs."""

import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from local_deployment import until
from prometheus_client import generate_latest
from renewing import DAY, NOW, aged, enrolment, request, serving
from wire_peers import Peer, refused

from umbel.base import ConfigError, VirtualClock
from umbel.deployment import Authority, Identity, ServerSettings
from umbel.deployment.certificates import make_request, valid_until
from umbel.deployment.server.certificate import ServerCertificate
from umbel.deployment.server.metrics import plane_registry
from umbel.deployment.server.settings import renewed_in_time
from umbel.deployment.wire import umbel_pb2 as wire


def shown(here, client: Identity, folder: Path) -> float:
    """Return in how many days the certificate ends that the server shows."""
    (folder / "cert").write_bytes(client.cert_pem)
    (folder / "key").write_bytes(client.key_pem)
    tls = ssl.create_default_context(cadata=client.ca_pem.decode())
    tls.load_cert_chain(folder / "cert", folder / "key")
    tls.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", here.server.port), timeout=20) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        pem = ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True))
    return (valid_until(pem.encode()) - NOW) / DAY


def test_it_is_renewed_at_the_start_even_if_it_has_ended(data, tmp_path):
    old = aged(data, data / "identity", 400)
    with serving(data) as here:
        client = here.joined(tmp_path / "own")
        assert shown(here, client, tmp_path) == pytest.approx(90, abs=0.01)
    assert Identity.load(data / "identity").key_pem == old.key_pem


def test_it_is_renewed_while_it_runs_and_sessions_go_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr("umbel.deployment.server.certificate._CHECK_S", 0.01)
    with serving(data) as here:
        client = here.joined(tmp_path / "own")
        assert shown(here, client, tmp_path) == pytest.approx(365, abs=0.01)
        peer = Peer(here, client)
        session = peer.connect()
        session.hear("welcome")
        aged(data, data / "identity")
        until(lambda: shown(here, client, tmp_path) == pytest.approx(90, abs=0.01))
        with enrolment(here, client) as renew:  # on a new connection
            renew(request(client.key_pem))
        stranger = Authority.create(tmp_path / "stranger", "test")
        forged = stranger.sign_request(make_request(client.key_pem), client.principal, 1)
        with enrolment(here, replace(client, cert_pem=forged)) as renew:
            refused("U305", renew, request(client.key_pem))
        session.say(hello=wire.Hello())
        refused("U303", session.hear, "task")  # the stream of before is still heard
        session.close()
        peer.close()


def test_one_of_the_owners_is_left_alone_and_spoken_of_once_a_day(data, tmp_path, caplog):
    folder = data / "identity"
    past = VirtualClock(NOW - 300 * DAY)
    other = Authority.create(tmp_path / "other", "their own", clock=past)
    other.server_certificate(["localhost"], 365).save(folder)
    own, authority = Identity.load(folder), Authority.load(data / "authority")
    assert renewed_in_time(folder, authority, 90, NOW) == own
    settings = ServerSettings(data).with_keys()
    watched = ServerCertificate(settings, own.credentials)
    for hours in (0, 1, 2, 24):
        watched._look(NOW + hours * 3600)
    assert caplog.text.count("the certificate of the server ends on") == 2
    assert "in 64 days" in caplog.text
    assert Identity.load(folder) == own


def test_the_authority_is_spoken_of_before_it_ends(data, caplog):
    settings = ServerSettings(data).with_keys()
    watched = ServerCertificate(settings, settings.credentials)
    watched._look(NOW)
    assert caplog.text == ""
    watched._look(valid_until(settings.authority.ca_pem) - 300 * DAY)
    assert "the certificate of the authority ends on" in caplog.text


def test_it_stands_among_the_metrics(here):
    text = generate_latest(plane_registry(here.server.plane, here.server._certificate)).decode()
    assert 'umbel_certificate_end_seconds{of="server"}' in text
    assert 'umbel_certificate_end_seconds{of="authority"}' in text


def test_it_cannot_be_renewed_by_an_authority_that_has_ended(data):
    aged(data, data / "identity")
    late = Authority.load(data / "authority", clock=VirtualClock(NOW + 3651 * DAY))
    with pytest.raises(ConfigError, match="the authority expired on"):
        renewed_in_time(data / "identity", late, 90, NOW)
