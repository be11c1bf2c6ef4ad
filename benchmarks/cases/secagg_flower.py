"""Flower's SecAgg+: its client's stages and its server's steps, on one process, without a network.

    python benchmarks/cases/secagg_flower.py '{"clients": 10, "parameters": 1000, ...}'

Run by ``benchmarks/secagg.py`` with a Python that has ``flwr``. Prints seconds and bytes as JSON.
One client is run through all of its stages. What the server does once a client is done for one
survivor and for one neighbour of one client that dropped out, and counted as often as it happens.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

import numpy as np
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import (
    encrypt,
    generate_shared_key,
)
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import (
    pseudo_rand_gen,
    share_keys_plaintext_concat,
)
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

# By its full name: in its package, the same name is a function.
client = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
RANGE, MODULUS, CLIP, WEIGHT_MAX = 1 << 22, 1 << 32, 8.0, 1000.0


class Stopwatch:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, function: Any, *arguments: Any) -> Any:
        begin = time.perf_counter()
        outcome = function(*arguments)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
        return outcome


def size(values: dict[Any, Any]) -> int:
    """Return how many bytes the keys and values of a record have, numbers with 8."""
    total = 0
    for key, value in values.items():
        items = value if isinstance(value, list | tuple) else [value]
        total += len(str(key)) + sum(len(v) if isinstance(v, bytes | str) else 8 for v in items)
    return total


def main() -> None:
    facts = json.loads(sys.argv[1])
    near, threshold = facts["neighbourhood"], facts["threshold"]
    watch = Stopwatch()
    settings = {
        Key.SAMPLE_NUMBER: facts["clients"],
        Key.SHARE_NUMBER: near,
        Key.THRESHOLD: threshold,
        Key.CLIPPING_RANGE: CLIP,
        Key.TARGET_RANGE: RANGE,
        Key.MOD_RANGE: MODULUS,
        Key.MAX_WEIGHT: WEIGHT_MAX,
    }
    states = [client.SecAggPlusState(nid=nid) for nid in range(near)]
    public = {0: watch("setup", client._setup, states[0], dict(settings))}
    public |= {nid: client._setup(states[nid], dict(settings)) for nid in range(1, near)}
    roster = {str(nid): list(keys.values()) for nid, keys in public.items()}
    shared = watch("share", client._share_keys, states[0], dict(roster))

    # What the others send it: of the right size, and sealed with the right keys.
    shares = (
        create_shares(os.urandom(32), threshold, near)[0],
        create_shares(states[1].sk1, threshold, near)[0],
    )
    to_me = [
        encrypt(states[0].ss2_dict[nid], share_keys_plaintext_concat(nid, 0, *shares))
        for nid in range(1, near)
    ]
    delivered = {Key.CIPHERTEXT_LIST: to_me, Key.SOURCE_LIST: list(range(1, near))}
    update = np.random.default_rng(0).standard_normal(facts["parameters"]).astype(np.float32)
    parameters = ndarrays_to_parameters([np.clip(update, -CLIP, CLIP)])
    masked = watch("mask", client._collect_masked_vectors, states[0], delivered, 100, parameters)
    dropped = facts["dropped_near"]
    asked = {
        Key.ACTIVE_NODE_ID_LIST: list(range(near - dropped)),
        Key.DEAD_NODE_ID_LIST: list(range(near - dropped, near)),
    }
    told = watch("unmask", client._unmask, states[0], asked)
    up, down = [public[0], shared, masked, told], [settings, roster, delivered, asked]
    server = serve(facts, states, masked[Key.MASKED_PARAMETERS])
    print(
        json.dumps(
            {
                "client_s": sum(watch.seconds.values()),
                "stages_s": watch.seconds,
                "up_bytes": sum(map(size, up)),
                "down_bytes": sum(map(size, down)),
                "server_s": sum(server.values()),
                "steps_s": server,
            }
        )
    )


def serve(facts: dict[str, Any], states: list[Any], masked: list[bytes]) -> dict[str, float]:
    """Return the server's seconds by step, each measured once and multiplied."""
    near, threshold = facts["neighbourhood"], facts["threshold"]
    survivors = facts["clients"] - facts["dropped"]
    present = near - facts["dropped_near"]
    watch = Stopwatch()
    total = [bytes_to_ndarray(part) for part in masked]
    vector = watch("sum", lambda: [bytes_to_ndarray(part) for part in masked])
    total = watch("sum", parameters_addition, total, vector)
    shares = create_shares(states[0].rd_seed, threshold, near)[:present]
    secret = watch("survivors", combine_shares, shares)
    shapes = get_parameters_shape(total)
    mask = watch("survivors", pseudo_rand_gen, secret, MODULUS, shapes)
    total = watch("survivors", parameters_subtraction, total, mask)
    key_shares = create_shares(states[0].sk1, threshold, near)[:present]
    secret = watch("lost keys", combine_shares, key_shares)

    def mask_of_pair() -> Any:
        private, public = bytes_to_private_key(secret), bytes_to_public_key(states[1].pk1)
        return pseudo_rand_gen(generate_shared_key(private, public), MODULUS, shapes)

    total = watch("lost masks", parameters_addition, total, watch("lost masks", mask_of_pair))

    def decode() -> None:
        share, vectors = factor_extract(parameters_mod(total, MODULUS))
        for values in dequantize(vectors, CLIP, RANGE):
            values += -(survivors - 1) * CLIP
            values *= RANGE / max(share, 1)

    watch("decode", decode)
    times = {
        "sum": survivors,
        "survivors": survivors,
        "lost keys": facts["dropped"],
        "lost masks": facts["dropped"] * (near - 1),
        "decode": 1,
    }
    return {name: seconds * times[name] for name, seconds in watch.seconds.items()}


if __name__ == "__main__":
    main()
