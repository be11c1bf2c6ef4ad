"""Who breaks the protocol: each attempt ends in an abort that names its cause, and the victim's
update does not follow from what the adversary has.

The victim is node 1. What an adversary can compute is computed with all that it holds: the whole
transcript, and the states of clients that collude.
"""

import numpy as np
import pytest

from umbel.base import SecAggAborted
from umbel.secagg import Identity
from umbel.secagg.keys import agreed, public_of
from umbel.secagg.masks import add_masks, pair_key, pair_sign, self_key
from umbel.secagg.shamir import SHARE_BYTES, combine

VICTIM = 1


class TestTwoModels:
    """A server that sends the victim another model than the others (Pasquini et al. 2022)."""

    def test_an_honest_server_notices(self, long_round):
        session = long_round()
        told = session.survivors(models={VICTIM: b"another"})
        with pytest.raises(SecAggAborted, match="different models: nodes 1 unlike"):
            session.server.signatures(session.consistent(told=told))

    def test_clients_notice_when_the_server_hides_it(self, long_round):
        session = long_round()
        told = session.survivors(models={VICTIM: b"another"})
        signed = {n: reply["signature"] for n, reply in session.consistent(told=told).items()}
        all_of_them = {"nodes": session.nodes, "signatures": [signed[n] for n in session.nodes]}
        for node in session.nodes:
            with pytest.raises(SecAggAborted, match="did not sign the same model"):
                session.client(node).unmask(all_of_them)
            assert session.clients[node].stage == "aborted"
            assert not session.state(node)["shares"]

    def test_the_sum_is_noise_even_with_every_seed(self, long_round):
        # Without the consistency check clients do answer, and the server takes off what it can.
        session = long_round(active=False)
        told = session.survivors(models={VICTIM: b"another"})
        replies = {n: session.client(n).unmask(told) for n in session.nodes}
        roster = session.server._roster
        best = session.total()
        for i, node in enumerate(session.nodes):
            (seed,) = combine([1, 2, 3], [[replies[n]["seed_shares"][i] for n in (1, 2, 3)]])
            add_masks(best, [(self_key(seed, roster.binding(replies[node]["model"])), -1)])
        others = sum(session.vectors[n] for n in session.nodes if n != VICTIM)
        assert session.hides(VICTIM, best - others)
        with pytest.raises(SecAggAborted, match="different models: nodes 1 unlike"):
            session.server.unmask(replies, session.total())


class TestLiesAboutWhoDropped:
    def test_different_survivors_for_different_clients(self, long_round):
        session = long_round(8, 5)
        session.survivors()
        alive = session.nodes
        views = {n: alive if n % 2 else [m for m in alive if m != VICTIM] for n in alive}
        signed = {}
        with pytest.raises(SecAggAborted, match="says that this client dropped out"):
            session.client(VICTIM).consistency({"survivors": views[2]})
        for node in alive[1:]:
            signed[node] = session.client(node).consistency({"survivors": views[node]})
        # Whatever signatures it passes on, clients of the other view did not sign that.
        bundle = {"nodes": alive[1:], "signatures": [signed[n]["signature"] for n in alive[1:]]}
        for node in alive[1:]:
            with pytest.raises(SecAggAborted, match="the same survivors"):
                session.client(node).unmask(bundle)
        # No share was given to anybody: the server has masked vectors and nothing else.
        assert session.hides(VICTIM, session.masked[VICTIM])
        others = sum(session.vectors[n] for n in alive[1:])
        assert session.hides(VICTIM, session.total() - others)

    def test_only_the_signatures_of_one_view_are_too_few(self, long_round):
        session = long_round(8, 5)
        told = session.survivors()
        lie = {"survivors": session.nodes[1:]}
        signed = {n: session.client(n).consistency(told if n < 5 else lie) for n in session.nodes}
        view = [1, 2, 3, 4]
        bundle = {"nodes": view, "signatures": [signed[n]["signature"] for n in view]}
        with pytest.raises(SecAggAborted, match="too few clients are left after step 'consist"):
            session.client(2).unmask(bundle)

    @pytest.mark.parametrize(
        ("survivors", "complaint"),
        [
            ([2, 3, 4, 5], "this client dropped out"),
            ([1, 2], "no sum of fewer than 3"),
            ([1, 2, 3], "too few clients are left"),
            ([1, 2, 3, 4, 9], "not in the roster: 9"),
            ([1, 2, 2, 3, 4], "name no node twice"),
            ([2, 1, 3, 4], "ascending order"),
            ("1234", "list of node ids"),
            ([1, 2, 3, 4, 10**5000], "list of node ids"),
            ([-1, 1, 2, 3, 4], "list of node ids"),
            ([1, 2, 3, "4"], "list of node ids"),
        ],
    )
    def test_survivors_that_cannot_be(self, secagg_round, survivors, complaint):
        session = secagg_round(5, 4)
        session.survivors()
        with pytest.raises(SecAggAborted, match=complaint):
            session.client(VICTIM).consistency({"survivors": survivors})

    def test_shares_withheld_from_a_neighbour(self, secagg_round):
        # Without a mask between the two, the sum over a part of the clients would come out.
        session = secagg_round(6, 4)
        relayed = session.relayed()
        relayed[VICTIM] = {key: values[:3] for key, values in relayed[VICTIM].items()}
        for node in session.nodes:
            session.mask(node, relayed)
        with pytest.raises(SecAggAborted, match="whose shares it withheld: 5, 6"):
            session.client(VICTIM).consistency(session.server.survivors(session.nodes))

    def test_survivors_in_two_groups(self, secagg_round):
        session = secagg_round(12, 2, degree=2)
        session.survivors()
        ring = session.server._roster.graph._ring
        at = ring.index(VICTIM)
        survivors = sorted(set(ring) - {ring[(at + 3) % 12], ring[(at - 3) % 12]})
        with pytest.raises(SecAggAborted, match="fall apart into groups"):
            session.client(VICTIM).consistency({"survivors": survivors})
        session.server.stage = "survivors"
        with pytest.raises(SecAggAborted, match="fall apart into groups"):
            session.server.survivors(survivors)


class TestBothKindsOfShare:
    def test_a_second_answer_is_refused(self, long_round):
        session = long_round(5, 3)
        told = session.signatures()
        first = session.client(2).unmask(told)
        assert VICTIM in first["stayed"]
        assert VICTIM not in first["dropped"]
        with pytest.raises(SecAggAborted, match=r"'unmask' was asked for.*at 'done'"):
            session.client(2).unmask(told)
        assert not session.state(2)["shares"]

    def test_a_second_list_of_survivors_is_refused(self, long_round):
        session = long_round(5, 3)
        told = session.survivors()
        session.client(2).consistency(told)
        with pytest.raises(SecAggAborted, match=r"'consistency' was asked for.*at 'unmask'"):
            session.client(2).consistency({"survivors": [2, 3, 4, 5]})

    def test_one_kind_does_not_open_the_update(self, long_round):
        session = long_round(5, 3)
        replies = session.opened()
        roster = session.server._roster
        shares = [replies[n]["seed_shares"][0] for n in (1, 2, 3)]
        (seed,) = combine([1, 2, 3], [shares])
        best = session.masked[VICTIM].copy()
        binding = roster.binding(replies[2]["model"])
        add_masks(best, [(self_key(seed, binding), -1)])
        assert session.hides(VICTIM, best)


class TestSybils:
    def test_clients_whose_identity_nobody_trusts(self, secagg_round):
        people = {n: Identity.generate() for n in range(1, 6)}
        trusted = {person.public for person in people.values()}
        own = {n: {"identity": people[n], "trusted": trusted} for n in people}
        assert secagg_round(own=own).sum().size
        invented = secagg_round(own={n: own[n] for n in (1, 2, 3)})
        roster = invented.roster()
        with pytest.raises(SecAggAborted, match=r"not trusted here.*node: 4") as caught:
            invented.client(VICTIM).share(roster)
        assert caught.value.context["key"] == roster["identity"][3].hex()

    @pytest.mark.parametrize("key", ["signing", "cipher", "mask"])
    def test_one_client_as_two(self, secagg_round, posed, key):
        session = secagg_round()
        posed(session, 4, **{key: getattr(session.clients[3]._state.entry, key)})
        entries = {n: client.advertise() for n, client in session.clients.items()}
        roster = {"nodes": session.nodes} | {
            key: [entries[n][key] for n in session.nodes] for key in entries[1]
        }
        with pytest.raises(SecAggAborted, match=f"the same {key} key twice, as nodes 3 and 4"):
            session.client(VICTIM).share(roster)

    def test_one_identity_that_signs_twice(self, secagg_round):
        twin = {"identity": Identity.generate()}
        session = secagg_round(own={4: twin, 5: twin})
        with pytest.raises(SecAggAborted, match="the same identity key twice, as nodes 4 and 5"):
            session.roster()

    def test_a_node_twice(self, secagg_round):
        session = secagg_round()
        roster = {key: [*values, values[-1]] for key, values in session.roster().items()}
        with pytest.raises(SecAggAborted, match="no node twice"):
            session.client(VICTIM).share(roster)

    def test_a_cohort_that_is_too_small(self, secagg_round):
        own = {VICTIM: {"minimum_cohort": 6}}
        session = secagg_round(5, 3, own=own)
        roster = session.roster()
        with pytest.raises(SecAggAborted, match="joins no sum of fewer than 6"):
            session.client(VICTIM).share(roster)

    def test_a_cohort_that_shrinks_below_the_minimum(self, secagg_round):
        session = secagg_round(5, 3, own={VICTIM: {"minimum_cohort": 4}})
        told = session.survivors([1, 2, 3])
        with pytest.raises(SecAggAborted, match=r"over 3 clients.*fewer than 4"):
            session.client(VICTIM).consistency(told)

    @pytest.mark.parametrize("threshold", [2, 6])
    def test_a_threshold_that_protects_nobody(self, secagg_round, threshold):
        session = secagg_round(5, threshold)
        entries = {n: client.advertise() for n, client in session.clients.items()}
        entries = {"nodes": session.nodes} | {
            key: [entries[n][key] for n in session.nodes] for key in entries[1]
        }
        with pytest.raises(SecAggAborted, match="threshold of"):
            session.client(VICTIM).share(entries)

    def test_parameters_that_withstand_too_few_colluders(self, secagg_round):
        session = secagg_round(8, 5, own={VICTIM: {"colluders": 1}, 2: {"colluders": 2}})
        roster = session.roster()
        session.client(VICTIM).share(roster)
        with pytest.raises(SecAggAborted, match=r"withstands 1 colluding.*asks for 2"):
            session.client(2).share(roster)


class TestColluders:
    """Clients that give the server all they have."""

    def pooled(self, session, colluders):
        """Return the victim's seed and mask key as the colluders' shares give them."""
        shares = [bytes.fromhex(dict(session.state(n)["shares"])[VICTIM]) for n in colluders]
        halves = [[s[:SHARE_BYTES] for s in shares], [s[SHARE_BYTES:] for s in shares]]
        return combine(colluders, halves)

    def unmasked(self, session, seed, private):
        """Return the victim's vector without the masks that follow from these secrets."""
        roster = session.server._roster
        model = bytes.fromhex(session.state(2)["model"])
        binding = roster.binding(model)
        masks = [(self_key(seed, binding), -1)]
        for other in session.nodes:
            if other != VICTIM:
                secret = agreed(private, roster.entries[other].mask, other)
                key = pair_key(secret, binding, VICTIM, other)
                masks.append((key, -pair_sign(VICTIM, other)))
        vector = session.masked[VICTIM].copy()
        add_masks(vector, masks)
        return vector

    @pytest.mark.parametrize("threshold", [3, 4, 5])
    def test_as_many_as_the_threshold_open_an_update_and_one_fewer_do_not(
        self, long_round, threshold
    ):
        session = long_round(5, threshold, own={})
        session.survivors()
        roster = session.server._roster
        enough = session.nodes[-threshold:]
        seed, key = self.pooled(session, enough)
        assert public_of(key) == roster.entries[VICTIM].mask
        np.testing.assert_array_equal(self.unmasked(session, seed, key), session.vectors[VICTIM])
        fewer = enough[1:]
        guesses = self.pooled(session, fewer)
        seed, key = (guess or bytes(32) for guess in guesses)
        assert public_of(key) != roster.entries[VICTIM].mask
        assert session.hides(VICTIM, self.unmasked(session, seed, key))

    @pytest.mark.parametrize(("threshold", "active"), [(5, True), (4, False)])
    def test_a_sum_over_colluders_and_one_more_is_none_of_many(
        self, secagg_round, threshold, active
    ):
        # As many as the threshold can be all that is left: the victim among them, and one honest
        # client beside it, or the sum without the colluders' vectors is the victim's.
        session = secagg_round(5, threshold, active=active)
        assert session.parameters.withstands(5) == threshold - 2
        alone = threshold - 1
        session = secagg_round(
            5, threshold, active=active, own={VICTIM: {"colluders": alone}, 2: {"colluders": 2}}
        )
        roster = session.roster()
        session.client(2).share(roster)
        with pytest.raises(SecAggAborted, match=f"colluding neighbours, .*asks for {alone}"):
            session.client(VICTIM).share(roster)

    def test_keys_that_agree_on_the_secret_of_an_honest_pair(self, long_round, posed):
        # X25519 ignores the highest bit of a public key: nodes 1 and 2 advertise the mask keys of
        # the honest nodes 4 and 5 in other bytes, so that node 3 agrees with 1 on what it agrees
        # on with 4, adds the one mask and subtracts the other.
        session = long_round(5, 5)
        victim, shadows = 3, {1: 4, 2: 5}
        assert session.parameters.withstands(5) >= len(shadows)
        for shadow, honest in shadows.items():
            copied = session.clients[honest]._state.entry.mask
            posed(session, shadow, mask=copied[:-1] + bytes([copied[-1] ^ 0x80]))
        replies = session.opened()
        points = list(range(1, 6))
        (seed,) = combine(points, [[replies[n]["seed_shares"][victim - 1] for n in points]])
        best = session.masked[victim].copy()
        binding = session.server._roster.binding(replies[victim]["model"])
        add_masks(best, [(self_key(seed, binding), -1)])
        assert session.hides(victim, best)

    def test_with_what_honest_clients_answer_the_colluders_still_have_one_kind(self, long_round):
        # 5 clients, threshold 4: 2 * 4 - 5 - 1 = 2 colluders are withstood.
        session = long_round(5, 4)
        assert session.parameters.withstands(5) == 2
        told = session.signatures()
        colluders = [4, 5]
        keys = [dict(session.state(n)["shares"])[VICTIM] for n in colluders]
        honest = {n: session.client(n).unmask(told) for n in (1, 2, 3)}
        assert all(VICTIM not in reply["dropped"] for reply in honest.values())
        # Of the mask key there are the colluders' shares and no others: below the threshold.
        shares = [bytes.fromhex(text)[SHARE_BYTES:] for text in keys]
        (guess,) = combine(colluders, [shares])
        assert guess is None or public_of(guess) != session.server._roster.entries[VICTIM].mask
        seeds = [honest[n]["seed_shares"][0] for n in (1, 2, 3)]
        seeds.append(bytes.fromhex(keys[0])[:SHARE_BYTES])
        (seed,) = combine([1, 2, 3, 4], [seeds])
        assert session.hides(VICTIM, self.unmasked(session, seed, guess or bytes(32)))
