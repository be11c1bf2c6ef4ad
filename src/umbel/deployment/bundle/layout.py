"""What a bundle is, byte by byte, for those that pack and those that unpack.

A bundle is a tar file without compression, so that any ``tar tvf`` lists it: first the manifest,
then the files that the manifest lists, in its order. Every byte follows from the manifest and the
files' contents. That makes bundles equal when apps are, and lets whoever unpacks compare headers
with those that it would have written itself, instead of believing them.
"""

from __future__ import annotations

import json
import tarfile
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from umbel.base import BundleError

BUNDLE_MAX_BYTES = 64 * 1024 * 1024
"""The largest bundle, with its manifest and headers."""
BUNDLE_FILE_MAX_BYTES = 32 * 1024 * 1024
"""The largest file in a bundle."""
BUNDLE_FILES_MAX_COUNT = 5_000
"""The largest number of files in a bundle."""
PATH_MAX_BYTES = 512
"""The longest path of a file in a bundle, in UTF-8."""
PATH_MAX_DEPTH = 32
"""The largest number of parts of a path."""
NAME_MAX_BYTES = 255
"""The longest name of a file or folder, in UTF-8: what file systems take."""

FORMAT = 1
BLOCK_BYTES = tarfile.BLOCKSIZE
TRAILER = bytes(2 * BLOCK_BYTES)
MANIFEST_NAME = "UMBEL-BUNDLE.json"


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One file of a bundle.

    Attributes
    ----------
    path : str
        Relative to the app's folder, with ``/`` between its parts.
    size : int
        Bytes.
    sha256 : str
        64 hexadecimal digits.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says about itself.

    Attributes
    ----------
    name, version : str
        The app's.
    files : tuple of PackedFile
        In the order of their paths.
    """

    name: str
    version: str
    files: tuple[PackedFile, ...]

    def encode(self) -> bytes:
        """Return the manifest as JSON: one text for one manifest."""
        document = {
            "app": {"name": self.name, "version": self.version},
            "files": [asdict(file) for file in self.files],
            "format": FORMAT,
        }
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read what ``encode`` wrote.

        Raises
        ------
        BundleError
            If it is anything else, or breaks a bound.
        """
        try:
            document = json.loads(data)
            manifest = _from_document(document)
            is_canonical = manifest.encode() == data
        except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
            if isinstance(error, BundleError):
                raise
            raise BundleError(f"the manifest cannot be read: {error!r}") from error
        if not is_canonical:
            raise BundleError("the manifest is not in the form that packing gives it")
        manifest.check()
        return manifest

    def check(self) -> None:
        """Refuse files that break a bound, or paths that are unsafe on some file system.

        Raises
        ------
        BundleError
            That names the file.
        """
        if len(self.files) > BUNDLE_FILES_MAX_COUNT:
            raise BundleError(
                f"{len(self.files)} files are more than the {BUNDLE_FILES_MAX_COUNT} allowed",
                hint="leave data and results out of the app's folder",
                last=self.files[BUNDLE_FILES_MAX_COUNT - 1].path,
            )
        for file in self.files:
            check_size(file.path, file.size)
        check_paths(file.path for file in self.files)


def _from_document(document: Any) -> Manifest:
    if type(document["format"]) is int and document["format"] != FORMAT:
        raise BundleError(
            f"the bundle is of format {document['format']}, this release reads {FORMAT}",
            hint="bring both machines to the same release of Umbel",
        )
    app = document["app"]
    files = [PackedFile(file["path"], file["size"], file["sha256"]) for file in document["files"]]
    texts = [app["name"], app["version"], *(file.path for file in files)]
    if not all(type(text) is str for text in (*texts, *(file.sha256 for file in files))):
        raise TypeError("names, versions, paths and hashes are strings")
    if not all(type(file.size) is int and file.size >= 0 for file in files):
        raise TypeError("sizes are whole numbers, 0 or more")
    return Manifest(app["name"], app["version"], tuple(files))


def check_size(path: str, size_bytes: int) -> None:
    """Refuse a file that is too large.

    Raises
    ------
    BundleError
        That names it.
    """
    if size_bytes > BUNDLE_FILE_MAX_BYTES:
        raise BundleError(
            f"the file is larger than {BUNDLE_FILE_MAX_BYTES // 2**20} MiB",
            hint="an app holds code: leave data out of its folder, every node has its own",
            file=path,
            size_bytes=size_bytes,
        )


def check_total(size_bytes: int) -> None:
    """Refuse a bundle that is too large.

    Raises
    ------
    BundleError
        If it is.
    """
    if size_bytes > BUNDLE_MAX_BYTES:
        raise BundleError(
            f"the bundle is larger than {BUNDLE_MAX_BYTES // 2**20} MiB",
            hint="an app holds code: leave data out of its folder, every node has its own",
            size_bytes=size_bytes,
        )


def check_paths(paths: Iterable[str]) -> None:
    """Refuse paths that could leave the folder, or meet in one file on some file system.

    Raises
    ------
    BundleError
        That names the path.
    """
    seen: dict[str, tuple[str, bool]] = {}  # folded path -> (as it was written, is a file)
    before = ""
    for path in paths:
        parts = path.split("/")
        _check_path(path, parts)
        if path <= before:
            raise BundleError("the paths are not sorted, or one is there twice", file=path)
        before = path
        for depth in range(1, len(parts) + 1):
            place = "/".join(parts[:depth])
            is_file = depth == len(parts)
            other, was_file = seen.setdefault(_folded(place), (place, is_file))
            if other != place or was_file != is_file:
                raise BundleError(
                    f"the paths {other!r} and {place!r} are one on some file systems",
                    hint="rename one",
                    file=path,
                )


def _check_path(path: str, parts: list[str]) -> None:
    for part in parts:
        if part in ("", ".", "..") or part.endswith((".", " ")):
            raise BundleError(f"the path {path!r} leads elsewhere", file=repr(path))
        if len(part.encode()) > NAME_MAX_BYTES:
            raise BundleError(f"a name in the path is longer than {NAME_MAX_BYTES}", file=path)
    # A colon parts a drive or a hidden stream from a name, where backslashes part folders.
    if any(character in "\\:" or unicodedata.category(character) == "Cc" for character in path):
        raise BundleError(
            f"the path {path!r} holds a backslash, a colon or a control character",
            hint="rename it",
            file=repr(path),
        )
    if len(path.encode()) > PATH_MAX_BYTES or len(parts) > PATH_MAX_DEPTH:
        raise BundleError(
            f"the path is longer than {PATH_MAX_BYTES} bytes or {PATH_MAX_DEPTH} parts", file=path
        )
    if path == MANIFEST_NAME:
        raise BundleError("this name is the manifest's own", hint="rename the file", file=path)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def header(path: str, size_bytes: int) -> bytes:
    """Return the tar header of a file: no owner, no date, readable by all."""
    entry = tarfile.TarInfo(path)
    entry.size = size_bytes
    entry.mode = 0o644
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def padding(size_bytes: int) -> bytes:
    """Return the zeros that fill a file's last block."""
    return bytes(-size_bytes % BLOCK_BYTES)
