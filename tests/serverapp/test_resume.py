"""A run that is cut off and resumed ends as if nothing had happened."""

import json
import random
from contextlib import closing

import numpy as np
import pytest

import umbel.strategies
from umbel.base import ConfigError, NotEnoughReplies, ProtocolError, Seeds
from umbel.clientapp import FedDynTerm, ScaffoldTerm, compression_mod, personal_layers_mod
from umbel.privacy import AdaptiveBound, TreeAggregation
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Checkpoints, Run, Saved, Strategy, read_log
from umbel.strategies import FedAdam, FedAvg, Wrapper
from umbel.testing import FakeGrid
from umbel.updates import RandomK, scale

ROUNDS = 4
COMPRESSOR = RandomK(0.5)


def model():
    return ArrayRecord(
        {
            "w": np.linspace(-1, 1, 6).reshape(2, 3),
            "half": np.ones(3, np.float16),
            "bn.weight": np.ones(2),
            "steps": np.array(0),
        }
    )


def step(message, context, term=None):
    """Move the model by numbers drawn from the generators that the simulation seeds."""
    if message.metadata.message_type == "evaluate":
        loss = float(np.abs(message.content["arrays"]["w"].view()).sum()) + context.node_id
        return RecordDict({"metrics": MetricRecord({"num-examples": 1, "loss": loss})})
    if context.node_id == 3 and message.content["config"]["server-round"] % 2:
        raise OSError("disk full")
    arrays = {key: array.numpy() for key, array in message.content["arrays"].items()}
    for key, value in arrays.items():
        if value.dtype.kind == "f":
            pull = np.asarray(np.random.standard_normal(value.shape) * 0.1, value.dtype)
            arrays[key] = value + (
                pull if term is None else term.corrected({key: pull}, arrays)[key]
            )
    metrics = {"num-examples": 1 + context.node_id, "loss": float("nan"), "train_loss": 0.5}
    metrics["local-norm"] = 1.0 + context.node_id
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})
    return content if term is None else term.finish(content)


def with_scaffold(message, context):
    training = message.metadata.message_type == "train"
    return step(message, context, ScaffoldTerm(message, context, 0.1) if training else None)


def with_feddyn(message, context):
    training = message.metadata.message_type == "train"
    return step(message, context, FedDynTerm(message, context) if training else None)


def modded(mod):
    def client(message, context):
        def inner(message, context):
            return Message(step(message, context), reply_to=message)

        return mod(message, context, inner).content

    return client


PERSONAL = ["bn.*"]
ARGUMENTS = {
    "CenteredClipping": {},
    "FedOpt": {"direction": scale(0.5), "eta": 0.9},
    "FedPer": {"personal": PERSONAL},
    "FedBN": {"personal": PERSONAL},
    "FedProx": {"proximal_mu": 0.1},
    "FedTrimmedAvg": {"beta": 0.2},
    "NormBounding": {"max_norm": 1.0},
    "PowerOfChoice": {"num_candidates": 5, "num_selected": 3},
    "QFedAvg": {"client_learning_rate": 0.1},
}
CLIENTS = {
    "Scaffold": with_scaffold,
    "FedDyn": with_feddyn,
    "FedPer": modded(personal_layers_mod(PERSONAL)),
    "FedBN": modded(personal_layers_mod(PERSONAL)),
    "compressed": modded(compression_mod(COMPRESSOR)),
}
MAKE = {
    name: lambda kind=kind, name=name: kind(**ARGUMENTS.get(name, {}))
    for name, kind in vars(umbel.strategies).items()
    if isinstance(kind, type)
    and issubclass(kind, Strategy)
    and name in umbel.strategies.__all__
    and name != "KeptReplies"
    and not issubclass(kind, Wrapper)  # made by functions; tests/testing resumes them
    and not name.startswith("FedXgb")  # tests/testing/test_strategies.py resumes these
}
MAKE["compressed"] = lambda: umbel.strategies.with_compression(FedAdam(), COMPRESSOR)
MAKE["correlated dp"] = lambda: umbel.strategies.with_correlated_dp(
    FedAvg(),
    matrix=TreeAggregation(20),
    noise_multiplier=1.0,
    clipping=1.0,
    cohort=4,
    delta=1e-6,
    accountant="rdp",
)
MAKE["central dp"] = lambda: umbel.strategies.with_central_dp(
    FedAdam(),
    noise_multiplier=1.0,
    clipping=AdaptiveBound(),
    cohort=60,
    delta=1e-6,
    accountant="rdp",
)
MAKE["half of them"] = lambda: FedAvg(0.5, 0.5)


class CutOffError(Exception):
    """Ends a run where its machine would have lost power."""


def outcome(result):
    """Return the bits of all that the clock does not decide."""
    assert list(result.timings) == list(range(1, result.rounds + 1))
    metrics = [
        {number: {k: repr(v) for k, v in m.items()} for number, m in by_round.items()}
        for by_round in (
            result.train_metrics_clientapp,
            result.evaluate_metrics_clientapp,
            result.evaluate_metrics_serverapp,
        )
    ]
    failures = [(f.server_round, f.phase, f.node_id, f.kind, f.message) for f in result.failures]
    return {k: a.view().tobytes() for k, a in result.arrays.items()}, metrics, failures


def evaluated(server_round, arrays):
    """Return what depends on the server's own generators."""
    return MetricRecord({"drawn": random.random(), "w": float(arrays["w"].view().sum())})


@pytest.fixture
def learn(federate, tmp_path):
    """Return a function that runs in a folder."""

    def run(strategy, client=step, folder=tmp_path / "run", initial=None, **options):
        simulation = {"run_dir": folder, **options.pop("simulation", {})}
        options = {"num_rounds": ROUNDS, "evaluate_fn": evaluated, **options}
        return federate(
            strategy, client, initial=initial or model(), nodes=7, simulation=simulation, **options
        )

    return run


def cutting_off_at(server_round):
    def callback(number, result):
        if number == server_round:
            raise CutOffError

    return callback


@pytest.mark.parametrize("name", MAKE)
def test_every_strategy_goes_on_with_the_same_bits(learn, tmp_path, name):
    client = CLIENTS.get(name, step)
    whole = learn(MAKE[name](), client, folder=tmp_path / "whole")
    for kind in ("callback", "evaluate_fn"):
        folder, cut = tmp_path / kind, {"callback": 3, "evaluate_fn": 2}[kind]
        raising = cutting_off_at(cut)

        def evaluate(number, arrays, raising=raising):
            raising(number, None)
            return evaluated(number, arrays)

        options = {"callbacks": [raising]} if kind == "callback" else {"evaluate_fn": evaluate}
        simulation = {"resumable": True}
        with pytest.raises(CutOffError):
            learn(MAKE[name](), client, folder=folder, simulation=simulation, **options)
        heard = []
        resumed = learn(
            MAKE[name](),
            client,
            folder=folder,
            simulation={"resume": True},
            callbacks=[lambda number, result, heard=heard: heard.append(number)],
        )
        assert heard == list(range(cut, ROUNDS + 1))
        assert outcome(resumed) == outcome(whole)
        for file in ("metrics.jsonl", "model.safetensors"):
            assert (folder / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.parametrize("cut", [0, 1, ROUNDS])
def test_any_round_and_more_than_once(learn, tmp_path, cut):
    whole = learn(FedAdam(), folder=tmp_path / "whole")

    def evaluate(number, arrays):
        cutting_off_at(cut)(number, None)
        return evaluated(number, arrays)

    for simulation in ({"resumable": True}, {"resume": True}, {"resume": True}):
        with pytest.raises(CutOffError):
            learn(FedAdam(), simulation=simulation, evaluate_fn=evaluate)
    assert outcome(learn(FedAdam(), simulation={"resume": True})) == outcome(whole)
    resumed = [e.data for e in read_log(tmp_path / "run" / "log.jsonl") if e.event == "run_resumed"]
    at = {"start": min(cut, 1), "from_round": max(cut - 1, 0)}
    assert resumed == [at] * 3


def test_a_round_with_too_few_replies_is_done_again(learn, tmp_path):
    def failing(message, context):
        if message.content["config"]["server-round"] == 2:
            raise OSError("the network is down")
        return step(message, context)

    whole = learn(FedAvg(), folder=tmp_path / "whole")
    with pytest.raises(NotEnoughReplies):
        learn(FedAvg(), failing, simulation={"resumable": True})
    assert outcome(learn(FedAvg(), simulation={"resume": True})) == outcome(whole)


def test_calls_of_start_that_returned_are_not_made_again(federate, tmp_path):
    def run(folder, cut, **simulation):
        trained, strategy = [], FedAdam()

        def main(grid, context):
            first = strategy.start(grid, model(), num_rounds=2, evaluate_fn=evaluated)
            drawn = random.random()
            asked = [Message(RecordDict(), node, "evaluate") for node in range(2)]
            told = [r.content["metrics"]["drawn"] for r in grid.send_and_receive(asked)]
            second = strategy.start(
                grid, first.arrays, num_rounds=3, callbacks=cutting_off_at(cut), should_stop=stop
            )
            return outcome(first), outcome(second), second.stopped_early, drawn, told

        def client(message, context):
            if "arrays" not in message.content:
                return RecordDict({"metrics": MetricRecord({"drawn": np.random.random()})})
            trained.append(message.content["config"]["server-round"])
            return step(message, context)

        def stop(number, result):
            return number == 2

        simulation["run_dir"] = folder
        return federate(strategy, client, main=main, nodes=3, simulation=simulation), trained

    whole, _ = run(tmp_path / "whole", cut=None)
    with pytest.raises(CutOffError):
        run(tmp_path / "cut", cut=2, resumable=True)
    names = sorted(p.name for p in (tmp_path / "cut" / "checkpoints").iterdir())
    assert names == ["lock", "start-1-round-2.safetensors", "start-2-round-1.safetensors"]
    resumed, trained = run(tmp_path / "cut", cut=None, resume=True)
    assert resumed == whole
    assert resumed[2]
    assert set(trained) == {2}


class TestWhatIsRefused:
    def cut(self, learn):
        with pytest.raises(CutOffError):
            learn(FedAvg(), simulation={"resumable": True}, callbacks=cutting_off_at(3))

    def test_a_folder_without_a_run(self, learn):
        with pytest.raises(ConfigError, match="no run to resume"):
            learn(FedAvg(), simulation={"resume": True})

    def test_a_run_that_has_finished(self, learn):
        learn(FedAvg(), simulation={"resumable": True})
        with pytest.raises(ConfigError, match="has finished"):
            learn(FedAvg(), simulation={"resume": True})

    def test_a_log_that_was_tampered_with(self, learn, tmp_path):
        self.cut(learn)
        log = tmp_path / "run" / "log.jsonl"
        log.write_text(log.read_text().replace('"seed": 7', '"seed": 8'))
        with pytest.raises(ProtocolError, match="was changed after it was written"):
            learn(FedAvg(), simulation={"resume": True})

    @pytest.mark.parametrize("damage", ["cut", "changed", "gone", "empty"])
    def test_a_checkpoint_that_is_damaged(self, learn, tmp_path, damage):
        self.cut(learn)
        path = tmp_path / "run" / "checkpoints" / "start-1-round-2.safetensors"
        body = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes({"cut": body[:-1], "changed": body[:-1] + b"?", "empty": b""}[damage])
        with pytest.raises(ProtocolError, match=r"start-1-round-2\.safetensors"):
            learn(FedAvg(), simulation={"resume": True})

    def test_another_number_of_nodes(self, federate, learn, tmp_path):
        self.cut(learn)
        with pytest.raises(ConfigError, match="began with 7 nodes and cannot go on with 3"):
            federate(FedAvg(), step, nodes=3, simulation={"run_dir": tmp_path / "run", "resume": 1})

    def test_another_kind_of_strategy(self, learn):
        with pytest.raises(CutOffError):
            learn(FedAdam(), simulation={"resumable": True}, callbacks=cutting_off_at(3))
        with pytest.raises(ConfigError, match="is not one of FedAvg"):
            learn(FedAvg(), simulation={"resume": True})

    def test_a_run_without_a_folder(self):
        with pytest.raises(ConfigError, match="without a folder"):
            Run(resumable=True)


def test_a_line_that_was_cut_off_and_a_file_that_was_not_named_count_for_nothing(learn, tmp_path):
    whole = learn(FedAdam(), folder=tmp_path / "whole")
    with pytest.raises(CutOffError):
        learn(FedAdam(), simulation={"resumable": True}, callbacks=cutting_off_at(3))
    folder = tmp_path / "run" / "checkpoints"
    (folder / "start-1-round-3.safetensors").write_bytes(b"whole, but not in the log")
    (folder / "start-1.part").write_bytes(b"ha")
    with (tmp_path / "run" / "log.jsonl").open("ab") as log:
        log.write(b'{"seq": 40, "event": "checkpoint_sa')
    assert outcome(learn(FedAdam(), simulation={"resume": True})) == outcome(whole)
    assert sorted(p.name for p in folder.iterdir()) == ["lock", "start-1-round-4.safetensors"]
    assert not list(read_log(tmp_path / "run" / "log.jsonl"))[-1].data.get("error")


def test_where_nothing_had_begun_the_run_begins(learn, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_bytes(b'{"seq": 0, "at"')
    learn(FedAvg(), simulation={"resume": True})
    events = [entry.event for entry in read_log(tmp_path / "run" / "log.jsonl")]
    assert events[0] == "run_started"
    assert "run_resumed" not in events


def test_id_seed_and_settings_are_those_of_the_log(federate, tmp_path):
    seen = []

    def main(grid, context):
        seen.append((context.run_id, grid.run.seeds.seed, dict(context.run_config)))
        raise CutOffError

    for options in ({"resumable": True, "run_id": "one", "run_config": {"lr": 0.5}}, {"resume": 1}):
        with pytest.raises(CutOffError):
            federate(
                FedAvg(),
                step,
                main=main,
                seed=7 + len(seen),
                simulation={"run_dir": tmp_path, **options},
            )
    assert seen == [("one", 7, {"lr": 0.5})] * 2


def test_the_log_names_what_lies_there(learn, tmp_path):
    learn(FedAvg(), simulation={"resumable": True})
    log = list(read_log(tmp_path / "run" / "log.jsonl"))
    named = [entry.data for entry in log if entry.event == "checkpoint_saved"]
    assert [(d["start"], d["round"]) for d in named] == [(1, n) for n in range(ROUNDS + 1)]
    last = named[-1]
    saved = Saved(last["start"], last["round"], last["sha256"], last["size_bytes"])
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    checkpoints.adopt([saved])
    assert checkpoints.latest(1).finished
    checkpoints.close()
    lines = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert last["metrics_size_bytes"] == len(lines)
    assert json.loads(lines.splitlines()[-1])["round"] == ROUNDS


def test_the_grid_hears_of_every_checkpoint_once_the_log_names_it(tmp_path):
    run, heard = Run(seeds=Seeds(7), folder=tmp_path, resumable=True), []

    class Listening(FakeGrid):
        def checkpointed(self):
            heard.append(list(self.run.log.entries())[-1].data["round"])

    def handler(message):
        content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics})
        return Message(content, reply_to=message)

    metrics = MetricRecord({"num-examples": 1})
    with closing(run):
        FedAvg().start(Listening(handler, run=run), model(), num_rounds=2)
    assert heard == [0, 1, 2]
