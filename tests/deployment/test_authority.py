import ipaddress
import ssl
import stat

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from umbel.base import SYSTEM_CLOCK, ConfigError, VirtualClock
from umbel.deployment.authority import AUTHORITY_VALID_DAYS, Authority
from umbel.deployment.certificates import Principal, make_request, new_key, principal_of
from umbel.deployment.identity import Identity

DAY = 86_400
NODE = Principal("node", "3")


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def extension(pem, kind):
    return x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(kind)


def client_identity(authority, principal=NODE) -> Identity:
    key = new_key()
    return Identity(key, authority.sign_request(make_request(key), principal, 30), authority.ca_pem)


def test_an_authority_is_loaded_as_it_was_made(tmp_path, clock):
    made = Authority.create(tmp_path / "a" / "b", "clinics", clock=clock)
    loaded = Authority.load(tmp_path / "a" / "b", clock=clock)
    assert loaded.ca_pem == made.ca_pem
    assert mode(tmp_path / "a" / "b") == 0o700
    assert mode(tmp_path / "a" / "b" / "ca-key.pem") == 0o600
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"ca-key.pem", "ca.pem"}


def test_an_authority_is_never_overwritten(tmp_path):
    Authority.create(tmp_path, "clinics")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match="an authority here already"):
        Authority.create(tmp_path, "others")
    (tmp_path / "ca-key.pem").unlink()  # it may be kept elsewhere
    with pytest.raises(ConfigError, match="an authority here already"):
        Authority.create(tmp_path, "others")
    assert (tmp_path / "ca.pem").read_bytes() == before[tmp_path / "ca.pem"]


def test_an_interrupted_creation_is_taken_up_with_the_same_key(tmp_path):
    Authority.create(tmp_path, "clinics")
    key = (tmp_path / "ca-key.pem").read_bytes()
    (tmp_path / "ca.pem").unlink()
    Authority.create(tmp_path, "clinics")
    assert (tmp_path / "ca-key.pem").read_bytes() == key
    Authority.load(tmp_path)


def test_no_authority_and_a_mixed_one_say_so(tmp_path):
    with pytest.raises(ConfigError, match="umbel server init"):
        Authority.load(tmp_path)
    Authority.create(tmp_path, "clinics")
    (tmp_path / "ca-key.pem").write_bytes(new_key())
    with pytest.raises(ConfigError, match="do not belong together"):
        Authority.load(tmp_path)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_an_authority_needs_a_name_and_leaves_nothing_without(name, tmp_path):
    with pytest.raises(ConfigError, match="cannot name an authority"):
        Authority.create(tmp_path / "a", name)
    assert not (tmp_path / "a").exists()


def test_a_servers_certificate_holds_its_hosts_and_no_principal(authority):
    hosts = ["localhost", "fl.example.org", "127.0.0.1", "::1"]
    cert = authority.server_certificate(hosts, 30).cert_pem
    names = extension(cert, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == hosts[:2]
    addresses = [ipaddress.ip_address(host) for host in hosts[2:]]
    assert names.get_values_for_type(x509.IPAddress) == addresses
    assert list(extension(cert, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not names.get_values_for_type(x509.UniformResourceIdentifier)


@pytest.mark.parametrize("host", ["", "a b", "localhost:9050", "umbel:node/3", "a..b", "é.org"])
def test_what_is_no_host_is_refused(host, authority):
    with pytest.raises(ConfigError, match="neither a host's name nor an IP address"):
        authority.server_certificate([host], 30)


def test_a_server_without_a_host_is_refused(authority):
    with pytest.raises(ConfigError, match="needs a host"):
        authority.server_certificate([], 30)


def test_a_client_gets_the_name_that_the_server_chose(authority, clock):
    cert = client_identity(authority, Principal("user", "alice")).cert_pem
    assert principal_of(cert) == Principal("user", "alice")
    assert extension(cert, x509.BasicConstraints).value.ca is False
    assert extension(authority.ca_pem, x509.BasicConstraints).value.path_length == 0
    assert list(extension(cert, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    loaded = x509.load_pem_x509_certificate(cert)
    assert loaded.not_valid_before_utc.timestamp() == clock.now() - 300
    other = x509.load_pem_x509_certificate(client_identity(authority).cert_pem)
    assert loaded.serial_number != other.serial_number


def test_nothing_outlives_the_authority_that_signed_it(authority, clock):
    end = clock.now() + AUTHORITY_VALID_DAYS * DAY
    clock.advance((AUTHORITY_VALID_DAYS - 1) * DAY)
    assert authority.server_certificate(["localhost"], 1e9).valid_until == end
    clock.advance(2 * DAY)
    with pytest.raises(ConfigError, match="authority expired"):
        authority.server_certificate(["localhost"], 30)


@pytest.mark.parametrize("days", [0, -1, float("nan")])
def test_a_certificate_is_valid_for_a_time(days, authority):
    with pytest.raises(ConfigError, match="cannot be valid for"):
        authority.server_certificate(["localhost"], days)


# ---- The certificates in a handshake of TLS 1.3, in memory ----


def context(identity: Identity, folder, *, is_server: bool) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.verify_flags |= ssl.VERIFY_X509_STRICT
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(cadata=identity.ca_pem.decode())
    identity.save(folder)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return tls


def shake_hands(server: Identity, client: Identity, tmp_path, host="localhost") -> bytes:
    """Return the client's certificate as the server sees it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        context(client, tmp_path / "client", is_server=False).wrap_bio(
            to_client, to_server, server_hostname=host
        ),
        context(server, tmp_path / "server", is_server=True).wrap_bio(
            to_server, to_client, server_side=True
        ),
    ]
    left = list(ends)
    while left:
        for end in list(left):
            try:
                end.do_handshake()
                left.remove(end)
            except ssl.SSLWantReadError:
                continue
    return ssl.DER_cert_to_PEM_cert(ends[1].getpeercert(binary_form=True)).encode()


@pytest.fixture
def today(tmp_path) -> Authority:
    return Authority.create(tmp_path / "authority", "clinics", clock=SYSTEM_CLOCK)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_server_and_node_shake_hands(host, today, tmp_path):
    server = today.server_certificate(["localhost", "127.0.0.1"], 30)
    seen = shake_hands(server, client_identity(today), tmp_path, host)
    assert principal_of(seen) == Principal("node", "3")


def test_a_forged_certificate_is_refused(today, tmp_path):
    forger = Authority.create(tmp_path / "forger", "clinics")  # the same name, another key
    forged = client_identity(forger, Principal("admin", "eve"))
    forged = Identity(forged.key_pem, forged.cert_pem, today.ca_pem)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(today.server_certificate(["localhost"], 30), forged, tmp_path)


def test_a_node_cannot_pose_as_the_server(today, tmp_path):
    with pytest.raises(ssl.SSLError, match=r"CERTIFICATE_VERIFY_FAILED.*purpose"):
        shake_hands(client_identity(today), client_identity(today), tmp_path)


def test_a_node_cannot_sign_certificates(today, tmp_path):
    node = client_identity(today)
    child = Authority(node.key_pem, node.cert_pem)
    eve = client_identity(child, Principal("admin", "eve"))
    eve = Identity(eve.key_pem, eve.cert_pem + node.cert_pem, today.ca_pem)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(today.server_certificate(["localhost"], 30), eve, tmp_path)


def test_an_expired_certificate_is_refused(tmp_path):
    past = VirtualClock(SYSTEM_CLOCK.now() - 40 * DAY)
    authority = Authority.create(tmp_path / "authority", "clinics", clock=past)
    late = client_identity(authority)
    server = authority.server_certificate(["localhost"], 60)
    with pytest.raises(ssl.SSLError, match="expired"):
        shake_hands(server, late, tmp_path)
