"""The client's side of an app: handlers, clients as classes, and mods around them."""

from umbel.clientapp.app import ClientApp, ClientFn
from umbel.clientapp.client import Client
from umbel.clientapp.clip import clipping_mod
from umbel.clientapp.compression import compression_mod
from umbel.clientapp.localterm import LocalTerm, ProximalTerm
from umbel.clientapp.numpy_client import NumPyClient
from umbel.clientapp.onion import Handler, Mod
from umbel.clientapp.personal import personal_layers_mod
from umbel.clientapp.policy import (
    Account,
    AppIdentity,
    Normals,
    Policy,
    Released,
    Request,
    check_app,
    check_budget,
    check_content,
    check_request,
    explained,
    normals,
    parse_policy,
    refused,
    release,
    settings_of_masks,
    told_failure,
)
from umbel.clientapp.serving import Answer, Envelope, ErrorFields, error_fields, serve
from umbel.clientapp.size import message_size_mod
from umbel.clientapp.tasks import answer_task, message_content
from umbel.clientapp.timing import timing_mod
from umbel.clientapp.torch import batch_norm_names, freeze
from umbel.clientapp.variates import DittoTerm, FedDynTerm, ScaffoldTerm, local_norm

__all__ = [
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
    "LocalTerm",
    "Mod",
    "Normals",
    "NumPyClient",
    "Policy",
    "ProximalTerm",
    "Released",
    "Request",
    "ScaffoldTerm",
    "answer_task",
    "batch_norm_names",
    "check_app",
    "check_budget",
    "check_content",
    "check_request",
    "clipping_mod",
    "compression_mod",
    "error_fields",
    "explained",
    "freeze",
    "local_norm",
    "message_content",
    "message_size_mod",
    "normals",
    "parse_policy",
    "personal_layers_mod",
    "refused",
    "release",
    "serve",
    "settings_of_masks",
    "timing_mod",
    "told_failure",
]
