"""A node without the command line's comforts: ``python -m umbel.deployment.node``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from umbel.base import UmbelError
from umbel.deployment.node.service import serve_node
from umbel.deployment.node.settings import NodeEvent, NodeSettings, read_policy
from umbel.records import DEFAULT_CODEC


def main() -> int:
    """Be a node, and print each event as a line of JSON."""
    parser = argparse.ArgumentParser(prog="umbel.deployment.node", description=__doc__)
    parser.add_argument("address")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--app", type=Path)
    parser.add_argument("--trust-any", action="store_true")
    parser.add_argument("--max-tasks", type=int, default=1)
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--codec", action="append", dest="codecs")
    options = vars(parser.parse_args())
    file = options.pop("policy")
    options["codecs"] = tuple(options["codecs"] or [DEFAULT_CODEC])
    try:
        policy = None if file is None else read_policy(file)
        serve_node(NodeSettings(**options, policy=policy), _print)
    except UmbelError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _print(event: NodeEvent) -> None:
    print(json.dumps(asdict(event)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
