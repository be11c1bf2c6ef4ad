"""The server: the message plane for nodes and users, and the processes of server apps."""

from umbel.deployment.server.server import Server, serve
from umbel.deployment.server.settings import ServerSettings

__all__ = ["Server", "ServerSettings", "serve"]
