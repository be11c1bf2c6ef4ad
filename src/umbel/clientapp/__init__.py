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
from umbel.clientapp.policy import (
    Account,
    AppIdentity,
    Normals,
    Policy,
    PolicyRequest,
    ReleasedReply,
    check_app,
    check_budget,
    check_content,
    check_request,
    explain_policy,
    normals_of,
    parse_policy,
    refusal,
    release_reply,
    settings_of_masks,
    told_failure,
)
from umbel.clientapp.secagg import secagg_mod
from umbel.clientapp.serving import Answer, Envelope, ErrorFields, error_fields, serve
from umbel.clientapp.size import message_size_mod
from umbel.clientapp.tasks import answer_task, message_content
from umbel.clientapp.timing import timing_mod
from umbel.clientapp.torch import batch_norm_names, freeze
from umbel.clientapp.variates import DittoTerm, FedDynTerm, ScaffoldTerm, local_norm

__all__ = [
    "DP_RECORD",
    "Account",
    "Answer",
    "AppIdentity",
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
    "Normals",
    "NumPyClient",
    "Policy",
    "PolicyRequest",
    "ProximalTerm",
    "ReleasedReply",
    "ScaffoldTerm",
    "answer_task",
    "batch_norm_names",
    "bound_in_words",
    "check_app",
    "check_budget",
    "check_content",
    "check_request",
    "clipping_mod",
    "compression_mod",
    "dp_client_mod",
    "error_fields",
    "explain_policy",
    "freeze",
    "local_dp_mod",
    "local_norm",
    "message_content",
    "message_size_mod",
    "normals_of",
    "parse_policy",
    "personal_layers_mod",
    "refusal",
    "release_reply",
    "secagg_mod",
    "serve",
    "settings_of_masks",
    "timing_mod",
    "told_failure",
]
