"""The node: dials out to a server and answers its messages with a client app, where the data is."""

from umbel.deployment.node.agent import run_node
from umbel.deployment.node.blocking import start_client
from umbel.deployment.node.service import serve_node
from umbel.deployment.node.settings import NodeEvent, NodeSettings, read_policy

__all__ = ["NodeEvent", "NodeSettings", "read_policy", "run_node", "serve_node", "start_client"]
