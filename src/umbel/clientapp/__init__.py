"""The client's side of an app: handlers, clients as classes, and mods around them."""

from umbel.clientapp.app import ClientApp, ClientFn
from umbel.clientapp.client import Client
from umbel.clientapp.clientdp import DP_RECORD, bound_in_words, dp_client_mod
from umbel.clientapp.clip import clipping_mod
from umbel.clientapp.compression import compression_mod
from umbel.clientapp.localdp import LocalNoise, local_dp_mod
from umbel.clientapp.localterm import LocalTerm, ProximalTerm
from umbel.clientapp.numpy_client import NumPyClient
from umbel.clientapp.onion import Handler, Mod
from umbel.clientapp.personal import personal_layers_mod
from umbel.clientapp.secagg import secagg_mod
from umbel.clientapp.serving import Answer, Envelope, ErrorFields, error_fields, serve
from umbel.clientapp.size import message_size_mod
from umbel.clientapp.tasks import answer_task
from umbel.clientapp.timing import timing_mod
from umbel.clientapp.torch import batch_norm_names, freeze
from umbel.clientapp.variates import DittoTerm, FedDynTerm, ScaffoldTerm, local_norm

__all__ = [
    "DP_RECORD",
    "Answer",
    "Client",
    "ClientApp",
    "ClientFn",
    "DittoTerm",
    "Envelope",
    "ErrorFields",
    "FedDynTerm",
    "Handler",
    "LocalNoise",
    "LocalTerm",
    "Mod",
    "NumPyClient",
    "ProximalTerm",
    "ScaffoldTerm",
    "answer_task",
    "batch_norm_names",
    "bound_in_words",
    "clipping_mod",
    "compression_mod",
    "dp_client_mod",
    "error_fields",
    "freeze",
    "local_dp_mod",
    "local_norm",
    "message_size_mod",
    "personal_layers_mod",
    "secagg_mod",
    "serve",
    "timing_mod",
]
