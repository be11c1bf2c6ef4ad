"""Which join tokens a server refuses."""

import pytest
from local_deployment import LocalDeployment, until
from wire_peers import Peer, refused

from umbel.base import UmbelError
from umbel.deployment import Credentials, Identity, JoinToken
from umbel.deployment.certificates import make_request, new_key
from umbel.deployment.user import enrol
from umbel.deployment.wire import umbel_pb2 as wire

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    with LocalDeployment(tmp_path_factory.mktemp("refusals")) as deployment:
        deployment.start_server()
        yield deployment


class TestTokens:
    def bearer(self, token: JoinToken) -> Credentials:
        return Credentials(token.ca_pem, token.key_pem, token.cert_pem)

    def test_an_expired_one(self, here):
        token = here.token("node", ttl_s=0.001)

        def refusal() -> str:
            try:
                enrol(here.address, self.bearer(token), make_request(new_key()), "late")
            except UmbelError as error:
                return error.code
            return ""

        until(lambda: refusal() == "U404", 5)  # it is good to the end of its second

    def test_a_used_one_with_another_key(self, here, tmp_path):
        token = here.token("node")
        request = make_request(new_key())
        first = enrol(here.address, self.bearer(token), request, "a")
        again = enrol(here.address, self.bearer(token), request, "a")  # its answer was lost
        assert first[1] == again[1]
        other = make_request(new_key())
        refused("U405", enrol, here.address, self.bearer(token), other, "b")

    def test_one_that_opens_nothing_else(self, here):
        token = here.token("node")
        bearer = Peer(here, Identity(token.key_pem, token.cert_pem, token.ca_pem))
        refused("U402", bearer.runs.List, wire.ListRunsRequest())
        refused("U402", bearer.connect().hear, "welcome")
        refused("U402", bearer.push, b"data")
        refused("U402", bearer.pull, wire.Object(hash="0" * 64))
        refused("U402", bearer.objects.Stat, wire.StatRequest())
        bearer.close()
