"""Rules over replies on disk, against plain NumPy, and their limits."""

import itertools

import numpy as np
import pytest

from umbel.base import AggregationError, ConfigError
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.strategies import (
    Bulyan,
    CenteredClipping,
    FedAvg,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    GeometricMedian,
    Krum,
    MultiKrum,
    NormBounding,
    QFedAvg,
)

N = 11
ITEMS = 37


def reply(node: int) -> np.ndarray:
    return np.random.default_rng(node).standard_normal(ITEMS)


def liar(node: int, attackers: int) -> np.ndarray:
    return np.full(ITEMS, 1e6 * (-1) ** node) if node < attackers else reply(node)


def client(value=reply, weight=lambda node: 1, loss=lambda node: 1.0):
    def answer(message, context):
        node = context.node_id
        vector = value(node)
        arrays = {"a": vector[:7], "b": vector[7:].reshape(5, 6).astype(np.float32)}
        metrics = {"num-examples": weight(node), "train_loss": loss(node)}
        return RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})

    return answer


def initial(value=0.0):
    return ArrayRecord({"a": np.full(7, value), "b": np.full((5, 6), value, np.float32)})


def run(federate, strategy, answer=None, nodes=N, start=0.0, **options):
    answer = answer or client()
    options = {"nodes": nodes, "initial": initial(start), "num_rounds": 1, **options}
    arrays = federate(strategy, answer, **options).arrays
    return np.concatenate([arrays[key].view().reshape(-1).astype(float) for key in "ab"])


def rows(value=reply, nodes=N):
    return np.array([value(node) for node in range(nodes)])


def close(got, expected, atol=1e-6):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("nodes", [10, 11])
def test_median(federate, nodes):
    close(run(federate, FedMedian(), nodes=nodes), np.median(rows(nodes=nodes), axis=0))


def test_trimmed_mean(federate):
    close(run(federate, FedTrimmedAvg()), np.sort(rows(), axis=0)[2:-2].mean(axis=0))


def test_trimming_nothing_is_the_mean(federate):
    close(run(federate, FedTrimmedAvg(beta=0.0)), rows().mean(axis=0))


def scores(x, f):
    squared = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    return np.sort(squared, axis=1)[:, 1 : max(1, len(x) - f - 2) + 1].sum(axis=1)


def test_krum(federate):
    close(run(federate, Krum(num_malicious_nodes=3)), rows()[scores(rows(), 3).argmin()])


def test_multi_krum_weights_what_it_keeps(federate):
    strategy = MultiKrum(num_malicious_nodes=2, num_nodes_to_select=4)
    kept = np.argsort(scores(rows(), 2))[:4]
    expected = np.average(rows()[kept], axis=0, weights=kept + 1)
    close(run(federate, strategy, client(weight=lambda node: node + 1)), expected)


def test_multi_krum_that_keeps_all_is_fedavg(federate):
    answer = client(weight=lambda node: node + 1)
    strategy = MultiKrum(num_nodes_to_select=N)
    close(run(federate, strategy, answer), run(federate, FedAvg(), answer))


def test_bulyan(federate):
    f, x, left = 2, rows(), list(range(N))
    chosen = []
    while len(chosen) < N - 2 * f:
        among = x[left]
        total = ((among[:, None] - among[None]) ** 2).sum(axis=(1, 2))
        chosen.append(x[left.pop(np.lexsort((total, scores(among, f)))[0])])
    chosen = np.array(chosen)
    keep = len(chosen) - 2 * f
    distance = np.abs(chosen - np.median(chosen, axis=0))
    order = np.argsort(distance, axis=0, kind="stable")[:keep]
    expected = np.take_along_axis(chosen, order, axis=0).mean(axis=0)
    close(run(federate, Bulyan(num_malicious_nodes=f)), expected)


@pytest.mark.parametrize(
    ("strategy", "needs"),
    [
        (Bulyan(num_malicious_nodes=3), "4 f . 3 = 15"),
        (Krum(num_malicious_nodes=5), "2 f . 3 = 13"),
    ],
)
def test_too_few_replies_are_a_clear_error(federate, strategy, needs):
    with pytest.raises(AggregationError, match=f"needs n >= {needs}"):
        run(federate, strategy)


def test_geometric_median(federate):
    x = rows()
    v = x.mean(axis=0)
    for _ in range(5):
        beta = 1 / np.maximum(1e-6, np.linalg.norm(x - v, axis=1))
        v = (beta[:, None] * x).sum(axis=0) / beta.sum()
    close(run(federate, GeometricMedian(iterations=5)), v)


def test_geometric_median_of_identical_replies_is_the_reply(federate):
    got = run(federate, GeometricMedian(), client(lambda node: reply(3)))
    close(got, reply(3))


@pytest.mark.parametrize("iterations", [1, 3])
def test_centered_clipping(federate, iterations):
    x, v, tau = rows(), np.full(ITEMS, 0.5), 2.0
    for _ in range(iterations):
        factors = np.minimum(1, tau / np.linalg.norm(x - v, axis=1))
        v = v + (factors[:, None] * (x - v)).mean(axis=0)
    close(run(federate, CenteredClipping(tau=tau, iterations=iterations), start=0.5), v)


def test_norm_bounding(federate):
    x, w = rows(), np.full(ITEMS, 0.5)
    bound = np.median(np.linalg.norm(x - w, axis=1)) + 1e-3
    weights = np.arange(1, N + 1)
    factors = np.minimum(1, bound / np.linalg.norm(x - w, axis=1))
    assert (factors < 1).any()
    assert (factors == 1).any()
    expected = w + np.average(factors[:, None] * (x - w), axis=0, weights=weights)
    answer = client(weight=lambda node: node + 1)
    close(run(federate, NormBounding(max_norm=bound), answer, start=0.5), expected)


@pytest.mark.parametrize("make", [NormBounding, CenteredClipping], ids=lambda make: make.__name__)
def test_a_bound_that_nobody_reaches_is_the_mean(federate, make):
    strategy = make(max_norm=1e9) if make is NormBounding else make(tau=1e9)
    close(run(federate, strategy), rows().mean(axis=0))


@pytest.mark.parametrize("q", [0.0, 0.1, 1.0, 2.0])
def test_qfedavg(federate, q):
    x, w, rate = rows(), np.full(ITEMS, 0.5), 0.1
    losses = np.arange(1, N + 1) / 3
    g = (w - x) / rate
    d = losses[:, None] ** q * g
    h = q * losses ** (q - 1) * (g**2).sum(axis=1) + losses**q / rate
    answer = client(loss=lambda node: (node + 1) / 3)
    strategy = QFedAvg(client_learning_rate=rate, q=q)
    close(run(federate, strategy, answer, start=0.5), w - d.sum(axis=0) / h.sum())
    if q == 0:
        close(run(federate, strategy, answer, start=0.5), x.mean(axis=0))


def test_a_reply_without_its_loss_is_rejected(federate):
    def silent(message, context):
        content = client()(message, context)
        if context.node_id == 0:
            del content["metrics"]["train_loss"]
        return content

    strategy = QFedAvg(client_learning_rate=1.0, q=0.0)
    result = federate(strategy, silent, initial=initial(), num_rounds=1)
    assert [failure.node_id for failure in result.failures if failure.phase == "train"] == [0]
    assert "train_loss" in result.failures[0].message


ROBUST = {
    "median": FedMedian,
    "trimmed": lambda: FedTrimmedAvg(beta=0.3),
    "krum": lambda: Krum(num_malicious_nodes=2),
    "multikrum": lambda: MultiKrum(num_malicious_nodes=2, num_nodes_to_select=4),
    "bulyan": lambda: Bulyan(num_malicious_nodes=2),
    "rfa": lambda: GeometricMedian(iterations=30),
    "clipping": lambda: CenteredClipping(tau=5.0, iterations=3),
    "norm": lambda: NormBounding(max_norm=5.0),
}
robust = pytest.mark.parametrize("make", ROBUST.values(), ids=ROBUST)


@robust
def test_outliers_leave_a_bounded_error(federate, make):
    got = run(federate, make(), client(lambda node: liar(node, 2)))
    assert np.abs(got).max() < 5


@robust
def test_the_order_of_replies_does_not_matter(federate, make):
    order = np.random.default_rng(1).permutation(N)
    got = run(federate, make(), client(lambda node: reply(int(order[node]))))
    close(got, run(federate, make()))


@robust
@pytest.mark.slow
def test_the_same_bits_wherever_clients_run(federate, make):
    def bits(**options):
        return run(federate, make(), num_rounds=2, **options).tobytes()

    expected = bits()
    for workers in (1, 2):
        simulation = {"backend_config": {"workers": workers}}
        assert bits(backend="processes", simulation=simulation) == expected


def test_nothing_is_left_on_the_disk(federate, tmp_path):
    run(federate, FedMedian(spill_dir=tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_server_optimizer_takes_a_step_towards_the_median(federate):
    from umbel.updates import scale

    close(run(federate, FedMedian(server_optimizer=scale(0.5))), np.median(rows(), axis=0) / 2)


def test_an_override_that_hands_replies_on_gets_the_same_bits(federate):
    class Override(FedMedian):
        def aggregate_train(self, server_round, replies):
            return super().aggregate_train(server_round, reversed(list(replies)))

    assert run(federate, Override()).tobytes() == run(federate, FedMedian()).tobytes()


def test_fedprox_sends_mu(federate):
    seen = []

    def listen(message, context):
        if message.metadata.message_type == "train":
            seen.append(message.content["config"]["proximal-mu"])
        return client()(message, context)

    got = run(federate, FedProx(proximal_mu=0.25), listen)
    assert seen == [0.25] * N
    assert got.tobytes() == run(federate, FedAvg()).tobytes()


@pytest.mark.parametrize(
    "make",
    [
        lambda: FedTrimmedAvg(beta=0.5),
        lambda: Krum(num_malicious_nodes=-1),
        lambda: MultiKrum(num_nodes_to_select=0),
        lambda: Bulyan(num_malicious_nodes=-1),
        lambda: GeometricMedian(nu=0.0),
        lambda: CenteredClipping(tau=0.0),
        lambda: NormBounding(max_norm=0.0),
        lambda: QFedAvg(client_learning_rate=0.0),
        lambda: FedProx(proximal_mu=-1.0),
        lambda: FedMedian(memory_limit_bytes=10),
    ],
)
def test_parameters_out_of_range_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_all_pairs_of_dtypes_mix(federate):
    """Replies may hold an array in different dtypes, whole and complex numbers among them."""
    import ml_dtypes

    kinds = (np.float16, np.float32, np.float64, np.int32, ml_dtypes.bfloat16)
    for first, second in itertools.combinations(kinds, 2):

        def mixed(message, context, first=first, second=second):
            kind = first if context.node_id % 2 else second
            arrays = {"a": np.full(3, context.node_id, kind), "z": np.array(1j * context.node_id)}
            metrics = MetricRecord({"num-examples": 1})
            return RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})

        start = ArrayRecord({"a": np.zeros(3, first), "z": np.array(0j)})
        result = federate(FedMedian(), mixed, nodes=5, initial=start, num_rounds=1)
        assert result.arrays["a"].view().astype(float).tolist() == [2.0] * 3
        assert result.arrays["z"].view() == 2j
