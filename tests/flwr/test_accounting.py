"""Flower's names for accounting, and the wrappers that an accountant is given to."""

from __future__ import annotations

from typing import Any

import dp_accounting.rdp  # noqa: F401 - takes a second to load, and no test is to pay for it
import numpy as np
import pytest

from umbel import flwr as fl
from umbel.base import ConfigError
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Run
from umbel.testing import FakeGrid

dp = fl.serverapp.strategy
FedAvg = dp.FedAvg
SERVER_FIXED = dp.DifferentialPrivacyServerSideFixedClipping
CLIENT_FIXED = dp.DifferentialPrivacyClientSideFixedClipping
ZEROS = ArrayRecord([np.zeros(2)])


def client(message: Message) -> Message:
    """Answer as one that has learnt nothing."""
    content = RecordDict({"metrics": MetricRecord({"num-examples": 1})})
    if message.metadata.message_type == "train":
        content["arrays"] = message.content["arrays"].copy()
    return Message(content, reply_to=message)


def run(strategy: Any, rounds: int = 1) -> Any:
    grid = FakeGrid(client, 4, Run(simulated=True))
    return strategy.start(grid, ZEROS, num_rounds=rounds)


def accountant(max_epsilon: float | None = None) -> Any:
    serverapp = fl.serverapp
    config = serverapp.PrivacyConfig(
        target_delta=1e-6,
        population_size=10,
        neighboring_relation=serverapp.NeighboringRelation.ADD_OR_REMOVE_ONE,
        sampling_method=serverapp.SamplingMethod.NO_AMPLIFICATION,
        max_epsilon=max_epsilon,
    )
    return serverapp.RdpAccountant(config)


def test_an_accountant_hears_of_all_releases_and_ends_the_run_in_good_order() -> None:
    one = accountant()
    strategy = SERVER_FIXED(FedAvg(), 4.0, 1.0, 4, accountant=one)
    result = run(strategy, rounds=3)
    spent = strategy.privacy_spent()
    assert (spent.num_releases, spent.delta, spent.accounting_method) == (3, 1e-6, "rdp")
    assert spent.epsilon == pytest.approx(result.privacy.epsilon)

    limited = accountant(max_epsilon=spent.epsilon * 1.01)
    result = run(CLIENT_FIXED(FedAvg(), 4.0, 1.0, 4, accountant=limited), rounds=9)
    assert (result.rounds, result.stopped_early, limited.num_releases) == (3, True, 3)

    again = accountant()
    again.load_state_dict(one.state_dict())
    assert again.get_epsilon(1e-6) == one.get_epsilon(1e-6)
    run(SERVER_FIXED(FedAvg(), 4.0, 1.0, 4, accountant=again))
    assert again.num_releases == 4
    with pytest.raises(ConfigError, match="counts with this configuration"):
        limited.load_state_dict(one.state_dict())


def test_an_accountant_of_the_apps_own_is_asked() -> None:
    class Counting:
        config = accountant(max_epsilon=1.0).config
        num_releases = 0

        def compose(self, event: Any, count: int = 1) -> None:
            assert (event.noise_multiplier, event.sample_size) == (1.0, 4)
            self.num_releases += count

        def would_exceed(self, event: Any) -> bool:
            return self.num_releases == 2

        def get_privacy_spent(self) -> Any:
            return fl.serverapp.PrivacySpent(float(self.num_releases), 1e-6, 0, "own")

    own = Counting()
    assert run(SERVER_FIXED(FedAvg(), 1.0, 1.0, 4, accountant=own), rounds=5).rounds == 2


def test_an_accountant_made_anew_hears_of_a_run_that_goes_on(tmp_path: Any) -> None:
    def begun(**how: Any) -> Run:
        return Run(folder=tmp_path / "run", simulated=True, **how)

    class Cut(FedAvg):  # type: ignore[misc,valid-type]
        def configure_train(self, server_round: int, *args: Any) -> Any:
            if server_round == 3:
                raise KeyboardInterrupt
            return super().configure_train(server_round, *args)

    first = begun(resumable=True)
    first.log.append("run_started", run_id="cut", seed=7, run_config={})
    strategy = SERVER_FIXED(Cut(), 4.0, 1.0, 4, accountant=accountant())
    with pytest.raises(KeyboardInterrupt):
        strategy.start(FakeGrid(client, 4, first), ZEROS, num_rounds=3)
    first.close()
    anew = accountant()
    strategy = SERVER_FIXED(FedAvg(), 4.0, 1.0, 4, accountant=anew)
    second = begun(resume=True)
    strategy.start(FakeGrid(client, 4, second), ZEROS, num_rounds=4)
    second.close()
    assert anew.num_releases == 4


class Median(FedAvg):  # type: ignore[misc,valid-type]
    """Overrides aggregate_train, as apps do."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        models = [reply.content["arrays"].to_numpy_ndarrays()[0] for reply in replies]
        return ArrayRecord([np.median(models, axis=0)]), None


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SERVER_FIXED(Median(), 1.0, 1.0, 4, accountant=accountant()), "does not average"),
        (lambda: SERVER_FIXED(FedAvg(), 0.0, 1.0, 4, accountant=accountant()), "no noise"),
    ],
)
def test_what_cannot_be_counted_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make()


def test_an_accountant_of_samples_is_refused() -> None:
    serverapp = fl.serverapp
    config = serverapp.PrivacyConfig(
        1e-5, 10, serverapp.NeighboringRelation.REPLACE_ONE, "without-replacement"
    )
    one = serverapp.RdpAccountant(config)
    one.compose(serverapp.GaussianPrivacyEvent(2.0, 1, 10))
    assert 0 < one.get_epsilon(1e-5) < 10
    assert 0 < one.get_delta(1.0) < 1
    with pytest.raises(ConfigError, match="no chance in who takes part"):
        SERVER_FIXED(FedAvg(), 1.0, 1.0, 4, accountant=one)
    with pytest.raises(ConfigError, match="is accounted for neighbours by replace-one"):
        serverapp.PrivacyConfig(
            1e-5, 10, serverapp.NeighboringRelation.ADD_OR_REMOVE_ONE, "without-replacement"
        )
    with pytest.raises(ConfigError, match="of a population of 20"):
        one.compose(serverapp.GaussianPrivacyEvent(2.0, 1, 20))
    with pytest.raises(ConfigError, match="there is no budget"):
        one.would_exceed(serverapp.GaussianPrivacyEvent(2.0, 1, 10))
    with pytest.raises(fl.NotInUmbel, match="orders"):
        serverapp.RdpAccountant(config, orders=(2.0,))
