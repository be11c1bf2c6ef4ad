"""From an app's folder to a bundle."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from umbel.base import AppProject, BundleError, content_hash
from umbel.deployment.bundle.layout import (
    BUNDLE_FILE_MAX_BYTES,
    BUNDLE_FILES_MAX_COUNT,
    MANIFEST_NAME,
    TRAILER,
    Manifest,
    PackedFile,
    check_size,
    check_total,
    header,
    padding,
)

_LEFT_OUT_FOLDERS = ("__pycache__", "node_modules")
_LEFT_OUT_AT_THE_TOP = ("build", "dist", "runs", "venv")
_LEFT_OUT_ENDINGS = (".pyc", ".pyo", ".egg-info")


def build_bundle(app_dir: str | Path) -> bytes:
    """Return the bundle of an app: the same bytes for the same files, on every machine.

    Left out are names that begin with a dot or end in ``.pyc``, ``.pyo`` or ``.egg-info``, folders
    called ``__pycache__`` or ``node_modules``, virtual environments, and at the top ``runs``,
    ``venv``, ``build`` and ``dist``. Dates, owners and modes do not count.

    Parameters
    ----------
    app_dir : str or pathlib.Path
        The folder with the app's ``pyproject.toml``.

    Raises
    ------
    ConfigError
        If it is no app.
    BundleError
        If a file is a symbolic link or no regular file, is too large, or its name would not work
        on every file system; if there are too many files; the text names the file.
    """
    project = AppProject.read(app_dir)
    files: list[PackedFile] = []
    contents: dict[str, bytes] = {}
    total = 0
    for path, place in _found(project.root):
        data = _read(path, place)
        total += len(data)
        check_total(total)
        contents[path] = data
        files.append(PackedFile(path, len(data), content_hash([data])))
        if len(files) > BUNDLE_FILES_MAX_COUNT:
            break  # the manifest says so
    files.sort(key=lambda file: file.path)
    manifest = Manifest(project.name, project.version, tuple(files))
    manifest.check()
    text = manifest.encode()
    parts = [header(MANIFEST_NAME, len(text)), text, padding(len(text))]
    for file in files:
        parts += [header(file.path, file.size), contents[file.path], padding(file.size)]
    bundle = b"".join([*parts, TRAILER])
    check_total(len(bundle))
    return bundle


def bundle_hash(bundle: bytes) -> str:
    """Return the name of a bundle: the SHA-256 of its bytes, 64 hexadecimal digits."""
    return content_hash([bundle])


def _found(root: Path, folder: str = "") -> Iterator[tuple[str, Path]]:
    """Yield (path in the bundle, path on disk) of every file that belongs into the bundle."""
    with os.scandir(root / folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if _is_left_out(entry, is_top=not folder):
            continue
        _check_encodable(path)
        if entry.is_symlink():
            raise BundleError(
                "a symbolic link cannot be packed: it leads elsewhere on another machine",
                hint="put a copy in its place, or take it out of the app's folder",
                file=path,
            )
        if entry.is_dir(follow_symlinks=False):
            yield from _found(root, path)
        elif entry.is_file(follow_symlinks=False):
            yield path, Path(entry.path)
        else:
            raise BundleError("only regular files can be packed", hint="remove it", file=path)


def _is_left_out(entry: os.DirEntry[str], *, is_top: bool) -> bool:
    if entry.name.startswith(".") or entry.name.endswith(_LEFT_OUT_ENDINGS):
        return True
    if not entry.is_dir():  # a link to one is left out like one
        return False
    named = entry.name in _LEFT_OUT_FOLDERS or (is_top and entry.name in _LEFT_OUT_AT_THE_TOP)
    return named or os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))


def _check_encodable(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise BundleError(
            "the file's name is not UTF-8", hint="rename it", file=repr(path)
        ) from None


def _read(path: str, place: Path) -> bytes:
    """Read a file that may grow, vanish or turn into something else meanwhile."""
    try:
        handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise BundleError("only regular files can be packed", file=path)
            check_size(path, status.st_size)
            data = stream.read(BUNDLE_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise BundleError(f"the file cannot be read: {error.strerror}", file=path) from error
    check_size(path, len(data))
    return data
