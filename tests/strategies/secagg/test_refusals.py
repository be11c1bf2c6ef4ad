import numpy as np
import pytest

from umbel.base import ConfigError, NotEnoughNodes, NotEnoughReplies, SecAggAborted
from umbel.clientapp import secagg_mod
from umbel.records import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from umbel.strategies import (
    FedAvg,
    FedMedian,
    FedNova,
    Scaffold,
    SecurelyAggregated,
    with_compression,
    with_secagg,
)
from umbel.testing import FakeGrid
from umbel.updates import Cast

NODES = 8


class TestWhoIsRefused:
    def test_a_client_without_the_mod(self, learn, secure, plain):
        def forgetful(message, context):
            if context.node_id == 1:
                return RecordDict({"metrics": MetricRecord({"num-examples": 1})})
            return secure()(message, context)

        ours = learn(with_secagg(FedAvg(fraction_evaluate=0), weight_max=30), forgetful)
        assert {f.node_id for f in ours.failures} == {1}
        assert "mods=[umbel.clientapp.secagg_mod()]" in ours.failures[0].message
        with pytest.raises(NotEnoughReplies) as caught:
            learn(with_secagg(FedAvg(), weight_max=30), plain())
        assert "secagg_mod()" in caught.value.hint

    def test_a_server_that_asks_for_the_result_in_the_clear(self, learn, secure):
        with pytest.raises(NotEnoughReplies, match="training result that is not masked"):
            learn(FedAvg(), secure())

    def test_a_server_that_asks_for_a_step_that_is_not_due(self):
        mod = secagg_mod()
        asked = RecordDict({"secagg": ConfigRecord({"stage": "unmask", "session": b"s"})})
        with pytest.raises(SecAggAborted, match="a session that this node is not in"):
            mod(Message(asked, 1, "train"), Context("run", 1), lambda m, c: m)

    @pytest.mark.parametrize("change", ["config", "arrays"])
    def test_a_server_that_sends_one_client_something_else(self, learn, change, secure):
        class Cheating(SecurelyAggregated):
            """As a server does that wants the others' updates to be zero."""

            def configure_train(self, server_round, arrays, config, grid):
                messages = list(super().configure_train(server_round, arrays, config, grid))
                content = messages[3].content
                if change == "config":
                    content["config"] = ConfigRecord({**content["config"], "proximal-mu": 0.5})
                else:
                    content["arrays"] = ArrayRecord({**content["arrays"], "b": np.ones(2) + 1e-9})
                return messages

        honest = with_secagg(FedAvg(), weight_max=30)
        cheating = Cheating(honest.inner, honest.plan, honest.neighbours, 3, 600.0)
        with pytest.raises(SecAggAborted, match="different models: nodes 3"):
            learn(cheating, secure())

    def test_a_server_that_saves_the_comparison(self, learn, secure):
        strategy = with_secagg(FedAvg(), weight_max=30, active=False)
        with pytest.raises(NotEnoughReplies, match="leave out the step in which clients compare"):
            learn(strategy, secure())

    def test_parameters_that_colluders_could_open(self, learn, secure):
        strategy = with_secagg(FedAvg(), weight_max=30, threshold=5)
        learn(strategy, secure(mod=secagg_mod(colluders=1)))
        with pytest.raises(NotEnoughReplies, match="withstands 1 colluding neighbours"):
            learn(strategy, secure(mod=secagg_mod(colluders=2)))

    def test_a_cohort_that_is_too_small(self, learn, secure):
        strategy = with_secagg(FedAvg(0.5), weight_max=30, minimum_cohort=5)
        with pytest.raises(NotEnoughNodes, match="4 clients, and no sum of fewer than 5"):
            learn(strategy, secure())
        with pytest.raises(NotEnoughReplies, match="joins no sum of fewer than 9"):
            learn(with_secagg(FedAvg(), weight_max=30), secure(mod=secagg_mod(minimum_cohort=9)))

    @pytest.mark.parametrize(
        "options",
        [
            {"minimum_cohort": 1},
            {"minimum_cohort": 2.5},
            {"colluders": -1},
            {"colluders": "3"},
            # Every noise is above them, and none is.
            {"noise_multiplier": -1.0},
            {"noise_multiplier": float("nan")},
        ],
        ids=str,
    )
    def test_a_mod_that_asks_for_nothing_that_has_a_meaning(self, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            secagg_mod(**options)

    @pytest.mark.parametrize(
        ("strategy", "told"),
        [
            (FedMedian(), "only a weighted mean"),
            (FedNova(), "only a weighted mean"),
            (Scaffold(), "only a weighted mean"),
            (with_compression(FedAvg(), Cast("float16")), "only a weighted mean"),
            (FedAvg(train_metrics_aggr_fn=lambda replies, key: MetricRecord()), "weighted mean"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_strategies_that_look_at_replies(self, strategy, told):
        with pytest.raises(ConfigError, match=told):
            with_secagg(strategy, weight_max=1)

    def test_strategies_that_aggregate_by_themselves(self):
        class Own(FedAvg):
            def aggregate_train(self, server_round, replies):
                return None, None

        with pytest.raises(ConfigError, match="Own overrides aggregate_train"):
            with_secagg(Own(), weight_max=1)

    @pytest.mark.parametrize(
        "options",
        [
            {"weight_max": 0},
            {"clip": -1.0},
            {"clip": {"w": np.inf}},
            {"bits": 8},
            {"threshold": 0.4},
            {"threshold": 1},
            {"degree": 3},
            {"degree": 4, "threshold": 2},
            {"degree": "auto", "threshold": 0.7},
            {"minimum_cohort": 1},
            {"metrics": {"loss": 0}},
        ],
        ids=str,
    )
    def test_arguments_that_make_no_sense(self, options):
        with pytest.raises(ConfigError):
            with_secagg(FedAvg(), **{"weight_max": 1, **options})

    def test_messages_that_differ(self, learn, secure):
        class Personal(FedAvg):
            def configure_train(self, server_round, arrays, config, grid):
                for n, message in enumerate(
                    super().configure_train(server_round, arrays, config, grid)
                ):
                    message.content["config"] = ConfigRecord({"place": n})
                    yield message

        with pytest.raises(ConfigError, match="different records 'config'"):
            learn(with_secagg(Personal(), weight_max=30), secure())


class TestWhatTheOwnerSets:
    """The node's configuration, which the app cannot change."""

    @pytest.fixture
    def configured(self, learn, secure):
        return lambda **settings: self.learned(learn, secure, settings)

    def learned(self, learn, secure, settings):
        def client(message, context):
            own = {k: v(context.node_id) if callable(v) else v for k, v in settings.items()}
            context.node_config.update(own)
            return secure()(message, context)

        return learn(with_secagg(FedAvg(), weight_max=30), client)

    @pytest.fixture
    def keys(self, tmp_path):
        """The nodes' private keys, and a file of all public ones but the last."""
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        pem, trusted = form.Encoding.PEM, b""
        for node in range(NODES):
            key = Ed25519PrivateKey.generate()
            private = form.PrivateFormat.PKCS8, form.NoEncryption()
            (tmp_path / f"{node}.pem").write_bytes(key.private_bytes(pem, *private))
            if node < NODES - 1:
                public = form.PublicFormat.SubjectPublicKeyInfo
                trusted += key.public_key().public_bytes(pem, public)
        (tmp_path / "trusted.pem").write_bytes(trusted)
        return tmp_path

    def test_with_whom_its_update_is_summed(self, configured, keys):
        told = {"secagg-identity": lambda node: str(keys / f"{node}.pem")}
        assert configured(**told).failures == []
        told["secagg-trusted"] = str(keys / "trusted.pem")
        with pytest.raises(NotEnoughReplies, match="identity key is not trusted"):
            configured(**told)

    def test_a_file_that_is_not_there_is_no_leave_to_go_on(self, configured, tmp_path):
        missing = str(tmp_path / "missing.pem")
        with pytest.raises(NotEnoughReplies, match="a file of keys cannot be read"):
            configured(**{"secagg-trusted": missing})

    @pytest.mark.parametrize("name", ["secagg-minimum-cohort", "secagg-colluders"])
    def test_its_numbers(self, configured, name):
        assert configured(**{name: 1}).failures == []
        with pytest.raises(NotEnoughReplies, match=r"fewer than 9|asks for 9"):
            configured(**{name: 9})
        with pytest.raises(NotEnoughReplies, match=f"{name}='many' is not a number"):
            configured(**{name: "many"})


def test_a_cohort_is_waited_for_until_a_sum_of_it_may_be_opened(secure, model):
    class Returning(FakeGrid):
        """As after a restart of the server: of eight nodes, those that are waited for are back."""

        back = 2

        def get_node_ids(self):
            return range(self.back)

        def wait_for_nodes(self, count, timeout_s):
            self.back = max(self.back, count)
            return super().wait_for_nodes(count, timeout_s)

    contexts = {node: Context("run", node) for node in range(NODES)}
    client = secure(mod=secagg_mod(minimum_cohort=5))

    def handler(message):
        content = client(message, contexts[message.metadata.dst_node_id])
        return Message(content, reply_to=message)

    strategy = with_secagg(FedAvg(fraction_evaluate=0), weight_max=30, minimum_cohort=5)
    result = strategy.start(Returning(handler, NODES), model, num_rounds=1)
    assert not result.failures
    assert int(result.arrays["steps"].view()) == 2


class TestNumbersThatAreTooCoarse:
    def test_a_step_larger_than_the_model_is_refused_before_anybody_trains(self, learn, secure):
        trained = []

        def handler(message, context):
            trained.append(context.node_id)

        # A step is 8e9 / (2**31 / 8) = 30, and the model's largest value 1.
        strategy = with_secagg(FedAvg(fraction_evaluate=0), weight_max=30, clip=8e9)
        with pytest.raises(ConfigError, match=r"multiples of 30 at best.* than 1 \(key: b\)"):
            learn(strategy, secure(handler))
        assert trained == []

    @pytest.mark.parametrize(("clip", "bits"), [(8e6, 32), (8.0, 32), (8e6, 64), (8.0, 16)])
    def test_a_mean_that_is_mostly_rounding_is_told_of(self, learn, secure, caplog, clip, bits):
        strategy = with_secagg(FedAvg(fraction_evaluate=0), weight_max=30, clip=clip, bits=bits)
        learn(strategy, secure(), nodes=3, num_rounds=2)
        told = [r.getMessage() for r in caplog.records if r.name == "umbel.strategies"]
        assert len(told) == ((clip, bits) == (8e6, 32))
        assert all("lower clip" in text for text in told)
