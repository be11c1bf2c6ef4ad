"""Which code runs here: the owner of a node decides, not the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from umbel.base import AppProject, BadSignature, NotAllowed
from umbel.clientapp import AppIdentity, Policy, check_app
from umbel.deployment.bundle import (
    BUNDLE_MAX_BYTES,
    build_bundle,
    bundle_hash,
    claimed_signer,
    unpack_bundle,
    verify,
)
from umbel.deployment.node.settings import NodeSettings
from umbel.deployment.wire import umbel_pb2 as wire

Fetch = Callable[[wire.Object], Awaitable[bytes]]
"""Returns the bytes of an object of the server's."""


async def app_folder(settings: NodeSettings, run: wire.RunInfo, fetch: Fetch) -> Path:
    """Return the folder with the app of a run.

    Raises
    ------
    NotAllowed
        The owner of this node does not let it run.
    PolicyRefused
        The owner's policy does not.
    UmbelError
        The bundle cannot be fetched, is not signed as it should be, or is damaged.
    """
    if settings.client_app is not None:
        return settings.data_dir  # the app is here already, whatever the run calls its own
    if settings.app is not None:
        return await _own_app(settings.app, run, settings.policy)
    if not settings.trusted and not settings.trust_any and not settings.has_pinned_apps:
        raise NotAllowed(
            "this node runs no apps",
            hint="its owner gives it one (--app DIR), or the keys to trust (--trust KEY)",
        )
    if not run.bundle.hash:
        raise NotAllowed(
            f"run {run.run_id} brings no app, and this node has none of its own",
            hint="its owner gives it one: --app DIR",
        )
    return await _bundled_app(settings, run, fetch)


async def _own_app(folder: Path, run: wire.RunInfo, policy: Policy | None) -> Path:
    own = AppProject.read(folder)
    reference = own.components["clientapp"]
    if reference != run.client_app:
        raise NotAllowed(
            f"the run asks for the client app {run.client_app!r} of {run.app_name or 'its app'}, "
            f"and this node has {reference!r} of {own.name} alone",
            hint="submit the app that the node's owner has installed",
        )
    if policy is not None and policy.apps:
        bundle = await asyncio.to_thread(build_bundle, folder)
        check_app(policy, AppIdentity(own.name, bundle_hash(bundle)))
    return own.root


async def _bundled_app(settings: NodeSettings, run: wire.RunInfo, fetch: Fetch) -> Path:
    if run.bundle.size_bytes > BUNDLE_MAX_BYTES:
        raise NotAllowed(
            f"a bundle of {run.bundle.size_bytes} bytes: more than {BUNDLE_MAX_BYTES}",
            hint="leave data out of the app's folder",
        )
    data = await fetch(run.bundle)
    policy = settings.policy
    if not settings.trust_any and not (policy is not None and policy.pins(run.bundle.hash)):
        verify(data, run.bundle_signature, settings.trusted)
    folder = unpack_bundle(data, settings.data_dir / "apps")
    if policy is not None and policy.apps:
        signer = _signer(data, run.bundle_signature)
        check_app(policy, AppIdentity(AppProject.read(folder).name, run.bundle.hash, signer))
    return folder


def _signer(bundle: bytes, signature: str) -> str | None:
    """Return the key that has signed a bundle, trusted or not."""
    try:
        signer = claimed_signer(signature)
        verify(bundle, signature, [signer])
    except BadSignature:
        return None
    return signer
