"""From a bundle to an app's folder; nothing is written before all of it is checked."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from umbel.base import BundleError, content_hash
from umbel.deployment.bundle.layout import (
    MANIFEST_NAME,
    TRAILER,
    Manifest,
    PackedFile,
    check_total,
    header,
    padding,
)
from umbel.deployment.bundle.packing import bundle_hash

_SIZE_FIELD = slice(124, 135)
"""Where a tar header holds the size, as octal digits."""


def read_manifest(bundle: bytes) -> Manifest:
    """Check a bundle, all of it, and return what it says about itself.

    Raises
    ------
    BundleError
        If it is not, to the last byte, what packing an app gives.
    """
    manifest, _ = _opened(bundle)
    return manifest


def unpack_bundle(bundle: bytes, folder: str | Path) -> Path:
    """Unpack a bundle into ``folder / bundle_hash(bundle)`` and return that.

    A bundle that is there already is not unpacked again, unless a file of it was damaged, say by a
    power cut. A crash leaves no half of one under that name, and of two processes that unpack the
    same bundle both succeed.

    Parameters
    ----------
    bundle : bytes
    folder : str or pathlib.Path
        Where unpacked bundles are kept, each under its hash; is made if it is not there.

    Raises
    ------
    BundleError
        If the bundle is not, to the last byte, what packing an app gives: nothing was written.
    """
    target = Path(folder) / bundle_hash(bundle)
    _, contents = _opened(bundle)
    if target.is_dir() and _is_whole(target, contents):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".unpacking-"))
    try:
        for file, data in contents:
            place = temporary / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        if target.is_dir() and not _is_whole(target, contents):
            shutil.rmtree(target)
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.is_dir():  # or else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _is_whole(folder: Path, contents: list[tuple[PackedFile, memoryview]]) -> bool:
    try:
        return all((folder / file.path).read_bytes() == data for file, data in contents)
    except OSError:
        return False


def _opened(bundle: bytes) -> tuple[Manifest, list[tuple[PackedFile, memoryview]]]:
    check_total(len(bundle))
    view = memoryview(bundle)
    size = _manifest_size(view)
    start = _after_header(view, 0, MANIFEST_NAME, size)
    manifest = Manifest.decode(bytes(view[start : start + size]))
    position = _after_padding(view, start, size, MANIFEST_NAME)
    contents = list(_contents(view, position, manifest))
    return manifest, contents


def _contents(
    view: memoryview, position: int, manifest: Manifest
) -> Iterator[tuple[PackedFile, memoryview]]:
    for file in manifest.files:
        start = _after_header(view, position, file.path, file.size)
        position = _after_padding(view, start, file.size, file.path)
        data = view[start : start + file.size]
        if content_hash([data]) != file.sha256:
            raise BundleError("the file is not what the manifest says", file=file.path)
        yield file, data
    if view[position:] != TRAILER:
        raise BundleError("the bundle goes on after its last file, or is cut short there")


def _manifest_size(view: memoryview) -> int:
    digits = bytes(view[_SIZE_FIELD])
    if not (digits.isdigit() and set(digits) <= set(b"01234567")):
        raise BundleError("this is not a bundle", hint="a bundle is what `umbel` packs of an app")
    return int(digits, 8)


def _after_header(view: memoryview, position: int, path: str, size: int) -> int:
    expected = header(path, size)
    if view[position : position + len(expected)] != expected:
        raise BundleError("the bundle does not hold what its manifest lists", file=path)
    return position + len(expected)


def _after_padding(view: memoryview, start: int, size: int, path: str) -> int:
    zeros = padding(size)
    end = start + size
    if len(view) < end or view[end : end + len(zeros)] != zeros:
        raise BundleError("the bundle is cut short", file=path)
    return end + len(zeros)
