"""Replayed, forged and malformed messages: each is refused with its cause and its sender.

The rest of the adversaries; the victim is node 1 here too.
"""

import numpy as np
import pytest

from umbel.base import KeyStream, SecAggAborted, fresh_key
from umbel.secagg.field import PRIME, weights_at_zero
from umbel.secagg.keys import Channel, agreed
from umbel.secagg.roster import Roster
from umbel.secagg.shamir import split

VICTIM = 1
ORDER_8 = 325606250916557431795983626356110631294008115727848805560023387167927233504
"""The u-coordinate of a point that eight additions make zero, on Curve25519."""


class TestEnvelopes:
    """Replayed and forged ones."""

    @pytest.mark.parametrize("key", ["signing", "cipher", "mask", "signature"])
    def test_keys_that_their_identity_did_not_sign(self, secagg_round, key):
        session = secagg_round()
        roster = session.roster()
        size = len(roster[key][1])
        roster[key][1] = bytes(size)
        with pytest.raises(SecAggAborted, match=r"not signed by their identity.*node: 2"):
            session.client(VICTIM).share(roster)
        session.entries[3][key] = bytes(size)
        session.server.stage = "roster"
        with pytest.raises(SecAggAborted, match=r"not signed by their identity.*node: 3"):
            session.server.roster(session.entries)

    def test_keys_of_another_session(self, secagg_round):
        session, other = secagg_round(), secagg_round(session=b"o" * 32)
        mine, theirs = session.roster(), other.roster()
        for key in ("identity", "signing", "cipher", "mask", "signature"):
            mine[key][2] = theirs[key][2]
        with pytest.raises(SecAggAborted, match=r"for this session.*node: 3"):
            session.client(VICTIM).share(mine)

    def test_keys_of_another_node(self, secagg_round):
        session = secagg_round()
        roster = session.roster()
        for key in ("identity", "signing", "cipher", "mask", "signature"):
            roster[key][1], roster[key][2] = roster[key][2], roster[key][1]
        with pytest.raises(SecAggAborted, match=r"not signed.*node: 2"):
            session.client(VICTIM).share(roster)

    def test_keys_put_in_the_victims_place(self, secagg_round):
        session, other = secagg_round(), secagg_round()
        mine, theirs = session.roster(), other.roster()
        for key in ("identity", "signing", "cipher", "mask", "signature"):
            mine[key][0] = theirs[key][0]
        with pytest.raises(SecAggAborted, match="does not have this client's keys"):
            session.client(VICTIM).share(mine)

    def test_a_session_id_used_again_with_old_keys_of_an_absent_client(self, long_round):
        # The old keys are signed and in order; but nobody is there to seal shares with them.
        old, new = long_round(), long_round()
        old_relayed = old.relayed()
        old_entries = old.entries
        entries = {n: new.client(n).advertise() for n in new.nodes} | {3: old_entries[3]}
        roster = new.server.roster(entries)
        del new.clients[3]
        shared = {n: new.client(n).share(roster) for n in (1, 2, 4, 5)}
        relayed = new.reload().relay(shared)
        at = old_relayed[VICTIM]["from"].index(3)
        relayed[VICTIM]["from"].insert(1, 3)
        relayed[VICTIM]["sealed"].insert(1, old_relayed[VICTIM]["sealed"][at])
        before = new.vectors[VICTIM].copy()
        with pytest.raises(SecAggAborted, match=r"shares do not open.*node: 3"):
            new.client(VICTIM).mask(before, b"model", relayed[VICTIM])

    def test_different_rosters_for_different_clients(self, secagg_round):
        session, stranger = secagg_round(), secagg_round()
        roster, theirs = session.roster(), stranger.roster()
        lie = {key: list(values) for key, values in roster.items()}
        for key in ("identity", "signing", "cipher", "mask", "signature"):
            lie[key][4] = theirs[key][4]
        shared = {n: session.client(n).share(lie if n == VICTIM else roster) for n in (1, 2, 3, 4)}
        relayed = session.server.relay(shared)
        for node, culprit in ((1, 2), (2, 1)):
            with pytest.raises(SecAggAborted, match=rf"different rosters.*node: {culprit}"):
                session.mask(node, relayed)

    @pytest.mark.parametrize("how", ["swapped", "forged", "reflected", "another session"])
    def test_shares_that_were_not_sealed_for_this(self, long_round, how):
        session = long_round()
        relayed = session.relayed()
        sealed = relayed[VICTIM]["sealed"]
        if how == "swapped":
            sealed[0], sealed[1] = sealed[1], sealed[0]
        elif how == "forged":
            sealed[0] = sealed[0][:-1] + bytes([sealed[0][-1] ^ 1])
        elif how == "reflected":  # what the victim itself sealed for node 2
            sealed[0] = relayed[2]["sealed"][0]
        else:
            sealed[0] = long_round(session=b"o" * 32).relayed()[VICTIM]["sealed"][0]
        vector = session.vectors[VICTIM].copy()
        with pytest.raises(SecAggAborted, match=r"shares do not open.*node: 2"):
            session.client(VICTIM).mask(vector, b"model", relayed[VICTIM])
        assert session.clients[VICTIM].stage == "aborted"
        assert not session.state(VICTIM)["mask_key"]

    def test_shares_from_a_node_that_is_no_neighbour(self, secagg_round):
        session = secagg_round()
        relayed = session.relayed()
        relayed[VICTIM]["from"][-1] = 77
        with pytest.raises(SecAggAborted, match="no neighbours: 77"):
            session.mask(VICTIM, relayed)

    def test_too_few_shares(self, secagg_round):
        session = secagg_round(5, 4)
        relayed = session.relayed()
        relayed[VICTIM] = {key: values[:2] for key, values in relayed[VICTIM].items()}
        with pytest.raises(SecAggAborted, match=r"only 2 neighbours.*threshold of 4"):
            session.mask(VICTIM, relayed)

    def test_a_signature_that_is_forged_or_of_another_client(self, secagg_round):
        for forged in (bytes(64), None):
            session = secagg_round()
            signed = session.consistent()
            signed[2]["signature"] = forged or signed[3]["signature"]
            with pytest.raises(SecAggAborted, match=r"is forged.*node: 2"):
                session.server.signatures(signed)
            bundle = {
                "nodes": session.nodes,
                "signatures": [signed[n]["signature"] for n in session.nodes],
            }
            with pytest.raises(SecAggAborted, match=r"is forged.*node: 2"):
                session.client(VICTIM).unmask(bundle)

    def test_signatures_of_nodes_that_did_not_survive(self, secagg_round):
        session = secagg_round()
        told = session.signatures([1, 2, 3, 4])
        told["nodes"][-1] = 5
        with pytest.raises(SecAggAborted, match="not among the survivors: 5"):
            session.client(VICTIM).unmask(told)

    def test_answers_from_nobody_that_was_asked(self, secagg_round):
        session = secagg_round()
        roster_entries = {n: client.advertise() for n, client in session.clients.items()}
        with pytest.raises(SecAggAborted, match="nodes 9 are not among the nodes asked"):
            session.server.roster(roster_entries | {9: roster_entries[1]})


class TestOutOfRange:
    def dealt(self, session, share):
        """Return what node 2 relays when it seals this for the victim."""
        relayed = session.relayed()
        key = bytes.fromhex(session.state(2)["cipher_key"])
        roster = session.server._roster
        secret = agreed(key, roster.entries[VICTIM].cipher, VICTIM)
        channel = Channel(secret, session.server.session, roster.hash, 2, VICTIM)
        relayed[VICTIM]["sealed"][0] = channel.seal(share)
        return relayed

    def test_a_client_that_deals_a_share_outside_the_field(self, secagg_round):
        session = secagg_round()
        relayed = self.dealt(session, PRIME.to_bytes(4, "little") * 18)
        with pytest.raises(SecAggAborted, match=r"outside the field.*node: 2"):
            session.mask(VICTIM, relayed)

    def test_a_client_that_deals_shares_of_something_else(self, secagg_round):
        session = secagg_round(5, 3)
        relayed = self.dealt(session, split(fresh_key() * 2, 5, 3, KeyStream(fresh_key()))[0])
        for node in session.nodes:
            session.mask(node, relayed)
        told = session.server.survivors(session.nodes)
        told = session.server.signatures(session.consistent(told=told))
        replies = {n: session.client(n).unmask(told) for n in session.nodes}
        with pytest.raises(SecAggAborted, match=r"of node 2 does not fit.*node: 1"):
            session.server.unmask(replies, session.total())

    @pytest.mark.parametrize(
        ("share", "complaint"),
        [
            (PRIME.to_bytes(4, "little") * 9, "outside the field.*node: 3"),
            (bytes(35), "must be 36 bytes.*node: 3"),
            ("text", "must be 36 bytes.*node: 3"),
            (bytes(36), r"of the secret of node 1 does not fit the others.*node: 3"),
        ],
    )
    def test_a_client_that_returns_a_wrong_share(self, secagg_round, share, complaint):
        session = secagg_round(5, 3)
        replies = session.opened()
        replies[3]["seed_shares"][0] = share
        total = session.total()
        with pytest.raises(SecAggAborted, match=complaint):
            session.reload().unmask(replies, total)
        np.testing.assert_array_equal(total, session.total())  # nothing was taken off
        del replies[3]  # and without that answer the sum comes out
        np.testing.assert_array_equal(session.server.unmask(replies, total), session.expected())

    def test_wrong_shares_of_so_many_that_nobody_is_to_blame(self, secagg_round):
        session = secagg_round(5, 3)
        replies = session.opened()
        replies[2]["seed_shares"][0] = replies[3]["seed_shares"][0] = bytes(36)
        with pytest.raises(SecAggAborted, match="or one of nodes 1, 2, 3 returned") as caught:
            session.reload().unmask(replies, session.total())
        # Least of all the one whose secret it is.
        assert "node" not in caught.value.context

    def test_a_client_that_names_another_model_than_it_signed(self, secagg_round):
        session = secagg_round(5, 3)
        replies = session.opened()
        replies[3]["model"] = bytes(32)
        total = session.total()
        with pytest.raises(SecAggAborted, match=r"another model than it signed.*node: 3"):
            session.reload().unmask(replies, total)
        del replies[3]
        np.testing.assert_array_equal(session.server.unmask(replies, total), session.expected())

    def test_a_client_that_returns_a_wrong_share_of_a_key(self, secagg_round):
        session = secagg_round(5, 3)
        replies = session.opened([2, 3, 4, 5])
        replies[3]["key_shares"][0] = bytes(36)
        with pytest.raises(SecAggAborted, match=r"secret of node 1 does not fit.*node: 3"):
            session.reload().unmask(replies, session.total())

    @pytest.mark.parametrize("key", ["seed_shares", "key_shares"])
    def test_a_wrong_share_that_makes_another_secret(self, secagg_round, key):
        # Crafted so that the secret of node 1 comes out 8 larger, and is 32 bytes as ever.
        session = secagg_round(5, 3)
        replies = session.opened(session.nodes if key == "seed_shares" else [2, 3, 4, 5])
        points = sorted(replies)[:3]
        limbs = np.frombuffer(replies[3][key][0], "<u4").copy()
        weight = int(weights_at_zero(points)[points.index(3)])
        limbs[0] = (int(limbs[0]) + 8 * pow(weight, -1, PRIME)) % PRIME
        replies[3][key][0] = limbs.tobytes()
        with pytest.raises(SecAggAborted, match=r"secret of node 1 does not fit.*node: 3"):
            session.reload().unmask(replies, session.total())

    def test_a_client_that_returns_shares_nobody_asked_for(self, secagg_round):
        session = secagg_round()
        replies = session.opened()
        replies[3]["dropped"], replies[3]["key_shares"] = [1], [bytes(36)]
        with pytest.raises(SecAggAborted, match=r"other secrets than it was asked for.*node: 3"):
            session.reload().unmask(replies, session.total())

    @pytest.mark.parametrize(
        ("key", "value", "complaint"),
        [
            ("to", [1, 2], "to each neighbour"),
            ("sealed", [b""] * 4, "'sealed' must be 88 bytes"),
            ("sealed", None, "one entry a node"),
            ("commitment", b"", "'commitment' must be 32 bytes"),
        ],
    )
    def test_a_client_that_shares_something_malformed(self, secagg_round, key, value, complaint):
        session = secagg_round()
        shared = session.shared()
        shared[4][key] = value
        with pytest.raises(SecAggAborted, match=rf"{complaint}.*node: 4"):
            session.server.relay(shared)

    @pytest.mark.parametrize("key", ["cipher", "mask"])
    @pytest.mark.parametrize("point", [0, 1, 2**255 - 20, 2**255 - 19, 2**255, ORDER_8])
    def test_a_public_key_that_makes_every_secret_zero(self, secagg_round, posed, key, point):
        # Noticed before anybody trains: one such client must not stop all others in ``mask``.
        session = secagg_round()
        posed(session, 3, **{key: point.to_bytes(32, "little")})
        with pytest.raises(SecAggAborted, match=r"gives no secret.*node: 3"):
            session.roster()
        # A server that lets it pass reaches nothing.
        entries = {"nodes": session.nodes} | {
            name: [session.entries[n][name] for n in session.nodes] for name in session.entries[1]
        }
        if key == "cipher":
            with pytest.raises(SecAggAborted, match=r"gives no secret.*node: 3"):
                session.client(VICTIM).share(entries)
            return
        session.server._roster = Roster.of(session.parameters, session.server.session, entries)
        session.server.stage = "relay"
        relayed = session.server.relay(session.shared(entries))
        with pytest.raises(SecAggAborted, match=r"gives no secret.*node: 3"):
            session.mask(VICTIM, relayed)

    def test_a_client_that_claims_the_identity_of_another(self, secagg_round, posed):
        # It is the one that has to go, also where its id is the lower one.
        session = secagg_round()
        posed(session, 2, identity=session.clients[4]._state.entry.identity)
        with pytest.raises(SecAggAborted, match=r"not signed by their identity.*node: 2"):
            session.roster()

    def test_a_model_hash_of_another_size(self, secagg_round):
        session = secagg_round()
        signed = session.consistent()
        signed[2]["model"] = b"short"
        with pytest.raises(SecAggAborted, match=r"'model' must be 32 bytes.*node: 2"):
            session.server.signatures(signed)
