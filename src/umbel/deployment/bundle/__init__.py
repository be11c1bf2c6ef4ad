"""Apps as signed archives: the same folder gives the same bytes, and so the same name."""

from umbel.deployment.bundle.layout import (
    BUNDLE_FILE_MAX_BYTES,
    BUNDLE_FILES_MAX_COUNT,
    BUNDLE_MAX_BYTES,
    Manifest,
    PackedFile,
)
from umbel.deployment.bundle.packing import build_bundle, bundle_hash
from umbel.deployment.bundle.signing import (
    check_public_key,
    claimed_signer,
    create_signing_key,
    new_signing_key,
    public_key,
    read_signing_key,
    sign,
    verify,
)
from umbel.deployment.bundle.unpacking import read_manifest, unpack_bundle

__all__ = [
    "BUNDLE_FILES_MAX_COUNT",
    "BUNDLE_FILE_MAX_BYTES",
    "BUNDLE_MAX_BYTES",
    "Manifest",
    "PackedFile",
    "build_bundle",
    "bundle_hash",
    "check_public_key",
    "claimed_signer",
    "create_signing_key",
    "new_signing_key",
    "public_key",
    "read_manifest",
    "read_signing_key",
    "sign",
    "unpack_bundle",
    "verify",
]
