"""A client of its own process: ``client.py PORT [CA] [raise | die] [cbor]``."""

import os
import sys
from pathlib import Path

import numpy as np

import umbel
from umbel.records import ArrayRecord, MetricRecord, RecordDict


class Mean(umbel.Client):
    """Draws its data by its number, and noise from the global generator, as clients do."""

    def __init__(self, fault=None):
        self._fault = fault

    def train(self, message, context):
        partition = context.node_config["partition-id"]
        if self._fault == "raise" and partition == 1:
            raise RuntimeError("the disk is full")
        if self._fault == "die" and partition == 1:
            os._exit(9)
        arrays = message.content["arrays"].to_numpy_ndarrays()
        seen = int(context.state["rounds"]["n"]) if "rounds" in context.state else 0
        context.state["rounds"] = MetricRecord({"n": seen + 1})
        noise = np.random.normal(size=arrays[0].shape)
        new = arrays[0] * 0.5 + partition + noise + seen
        metrics = MetricRecord({"num-examples": 10 + partition})
        content = RecordDict({"arrays": ArrayRecord([new]), "metrics": metrics})
        return umbel.Message(content, reply_to=message)

    def evaluate(self, message, context):
        metrics = MetricRecord(
            {"loss": float(context.run_config.get("scale", 1)), "num-examples": 1}
        )
        return umbel.Message(RecordDict({"metrics": metrics}), reply_to=message)


if __name__ == "__main__":
    port, *rest = sys.argv[1:]
    fault = next((item for item in rest if item in ("raise", "die")), None)
    codec = "cbor" if "cbor" in rest else "safetensors"
    authority = next((Path(item) for item in rest if item not in (fault, codec)), None)
    umbel.start_client(
        f"localhost:{port}",
        client=Mean(fault),
        root_certificates=authority,
        max_wait_s=30,
        codec=codec,
    )
    print("over")
