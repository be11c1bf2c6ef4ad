"""The client's side of an app: handlers, clients as classes, and mods around them."""

from umbel.clientapp.app import ClientApp, ClientFn
from umbel.clientapp.client import Client
from umbel.clientapp.clip import clipping_mod
from umbel.clientapp.numpy_client import NumPyClient
from umbel.clientapp.onion import Handler, Mod
from umbel.clientapp.size import message_size_mod
from umbel.clientapp.timing import timing_mod

__all__ = [
    "Client",
    "ClientApp",
    "ClientFn",
    "Handler",
    "Mod",
    "NumPyClient",
    "clipping_mod",
    "message_size_mod",
    "timing_mod",
]
