"""Objects on disk, named by the SHA-256 of their bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from umbel.base import SYSTEM_CLOCK, Clock, ProtocolError, StoreFull, sync

if TYPE_CHECKING:
    from hashlib import _Hash

_NAME = re.compile(r"[0-9a-f]{64}")
_PIECE_BYTES = 1 << 20
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)


@dataclass(slots=True)
class _Upload:
    """A partial object: its bytes lie in a file, what was hashed of them here."""

    size_bytes: int = 0
    digest: _Hash = field(default_factory=hashlib.sha256)
    lock: Lock = field(default_factory=Lock)
    resumed: bool = False


class ObjectStore:
    """Objects in `folder`, each written once and never changed.

    An upload grows in `incoming/HASH`, and gets its final name, `objects/ab/HASH`, when it is
    complete and its hash is right: what has a final name is whole, whatever crashed. Threads may
    share a store, and several may send the same object; processes may share the folder.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    max_bytes : int, optional
        What objects and partial uploads may take together.
    durable : bool, optional
        Whether an object survives a power cut once `finish` has returned.
    clock : Clock, optional
        Tells when an object was last used.

    Examples
    --------
    >>> import tempfile
    >>> from umbel.base import content_hash
    >>> name = content_hash([b"hello"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ObjectStore(Path(folder))
    ...     store.write(name, 0, b"hel")
    ...     store.write(name, store.offset(name), b"lo")
    ...     store.finish(name, 5).read_bytes()
    b'hello'
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int | None = None,
        durable: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._durable = durable
        self._clock = clock
        self._incoming = folder / "incoming"
        self._objects = folder / "objects"
        self._lock = Lock()
        self._uploads: dict[str, _Upload] = {}
        self._unsafe: set[str] = set()
        for made in (self._incoming, self._objects):
            made.mkdir(parents=True, exist_ok=True)
        if durable:
            # All now: of two that make one later, the second would not wait for its name.
            for number in range(256):
                (self._objects / f"{number:02x}").mkdir(exist_ok=True)
            for changed in (self._objects, folder, folder.parent):
                sync(changed)
        self._sizes = {path.name: path.stat().st_size for path in self._objects.glob("??/*")}
        self._total = sum(self._sizes.values())
        for path in self._incoming.iterdir():
            self._total += path.stat().st_size

    def path(self, hash: str) -> Path:
        """Return where a complete object lies, or will lie.

        Raises
        ------
        ProtocolError
            If this is no SHA-256; so no name leads out of the folder.
        """
        if not _NAME.fullmatch(hash):
            raise ProtocolError(f"an object is named by 64 hexadecimal digits, not {hash[:80]!r}")
        return self._objects / hash[:2] / hash

    def size(self, hash: str) -> int | None:
        """Return the size in bytes of a complete object, or None."""
        if hash in self._unsafe:
            return None
        try:
            size = self.path(hash).stat().st_size
        except FileNotFoundError:
            return None
        self._count(hash, size)
        return size

    def touch(self, hash: str) -> bool:
        """Mark a complete object as just used; False if it is not there."""
        now = self._clock.now()
        try:
            os.utime(self.path(hash), (now, now))
        except FileNotFoundError:
            return False
        return self.size(hash) is not None

    def total_bytes(self) -> int:
        """Return what objects and partial uploads take; those of other processes once asked for."""
        return self._total

    def offset(self, hash: str) -> int:
        """Return how many bytes of a partial upload are kept: where the next write goes on."""
        self.path(hash)
        upload = self._uploads.get(hash)
        if upload is not None:
            return upload.size_bytes
        try:
            return (self._incoming / hash).stat().st_size
        except FileNotFoundError:
            return 0

    def write(self, hash: str, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Add bytes to a partial upload; what is there already is skipped.

        Raises
        ------
        ProtocolError
            If the bytes would leave a gap.
        StoreFull
            If the store's bound or the disk has no room; what came before is kept.
        """
        self.path(hash)
        with self._uploading(hash) as upload:
            if upload is None:
                return  # another sender was faster
            if offset > upload.size_bytes:
                raise ProtocolError(
                    f"bytes from {offset} on would leave a gap",
                    hint=f"go on at {upload.size_bytes}",
                    object=hash,
                )
            fresh = memoryview(data).cast("B")[upload.size_bytes - offset :]
            if fresh:
                self._reserve(hash, len(fresh))
                self._append(self._incoming / hash, upload, fresh)

    def _append(self, path: Path, upload: _Upload, data: memoryview) -> None:
        try:
            with open(path, "r+b" if upload.size_bytes else "wb", buffering=0) as file:
                file.seek(upload.size_bytes)
                _write_all(file.fileno(), data)
        except OSError as error:
            self._grow(-len(data))
            with suppress(OSError):
                os.truncate(path, upload.size_bytes)
            raise _full(path, error) from error
        upload.digest.update(data)
        upload.size_bytes += len(data)

    def finish(self, hash: str, size_bytes: int) -> Path:
        """Check an upload, give it its name, and return its path.

        Raises
        ------
        ProtocolError
            If it is not complete (it can be continued), or does not have this hash (it is gone).
        StoreFull
            If the disk has no room; of a durable store the upload is gone then.
        """
        final, partial = self.path(hash), self._incoming / hash
        with self._uploading(hash) as upload:
            if upload is None:
                return final
            if upload.size_bytes < size_bytes:
                raise ProtocolError(
                    f"{upload.size_bytes} of {size_bytes} bytes have come", object=hash
                )
            if upload.size_bytes > size_bytes or upload.digest.hexdigest() != hash:
                self._drop(hash)
                raise ProtocolError(
                    f"{upload.size_bytes} bytes came that do not have the hash they were sent for",
                    hint="send the object again from its beginning",
                    object=hash,
                )
            try:
                partial.touch()  # an empty object has had no write
                self._publish(partial, final)
            except OSError as error:
                if self._durable and error.errno not in _TOO_MANY_FILES:
                    # A second try would tell nothing: the kernel forgets what it could not write.
                    self._drop(hash)
                raise _full(final, error) from error
            self._uploads.pop(hash)
            return final

    def put_file(self, path: Path, hash: str) -> Path:
        """Take over a file whose hash is known, and return its new path; `path` is gone then.

        Raises
        ------
        StoreFull
            If the store's bound or the disk has no room.
        """
        final = self.path(hash)
        if self.touch(hash):
            path.unlink()
            return final
        size = path.stat().st_size
        self._reserve(hash, size)
        try:
            if path.stat().st_dev != self._incoming.stat().st_dev:
                path = Path(shutil.move(path, self._incoming / f"{hash}.moved"))
            self._publish(path, final)
        except OSError as error:
            self._grow(-size)
            raise _full(final, error) from error
        return final

    def delete(self, hash: str, idle_s: float = 0.0) -> bool:
        """Delete an object and say whether that was done.

        With `idle_s`, one that was written, sent or touched in the last `idle_s` seconds stays.
        """
        path = self.path(hash)
        try:
            idle = self._clock.now() - path.stat().st_mtime
            if idle_s and idle < idle_s:
                return False
            path.unlink()
        except FileNotFoundError:
            pass
        with self._lock:
            self._total -= self._sizes.pop(hash, 0)
        return True

    def sweep(
        self, is_used: Callable[[str], bool], idle_s: float = 0.0, keep_bytes: int = 0
    ) -> list[str]:
        """Delete what is not used, the longest idle first, while more than `keep_bytes` is held.

        Parameters
        ----------
        is_used : callable
            Whether something refers to the object of this hash.
        idle_s : float, optional
            Objects and partial uploads that were used within so many seconds stay.
        keep_bytes : int, optional
            Stop when the store holds no more than this.

        Returns
        -------
        list of str
            The hashes of what was deleted.
        """
        gone: list[str] = []
        for _, path in sorted(self._idle(idle_s)):
            if self._total <= keep_bytes:
                break
            if path.parent == self._incoming:
                with self._uploading(path.name) as upload:
                    if upload is not None:
                        self._drop(path.name)
            elif is_used(path.name) or not self.delete(path.name, idle_s):
                continue
            gone.append(path.name)
        return gone

    def _idle(self, idle_s: float) -> Iterator[tuple[float, Path]]:
        before = self._clock.now() - idle_s
        for folder, pattern in ((self._objects, "??/*"), (self._incoming, "*")):
            for path in folder.glob(pattern):
                with suppress(FileNotFoundError):  # finished or deleted just now
                    used = path.stat().st_mtime
                    if used <= before:
                        yield used, path

    @contextmanager
    def _uploading(self, hash: str) -> Iterator[_Upload | None]:
        """Hold the one upload of this hash; None if the object is complete."""
        while True:
            with self._lock:
                upload = self._uploads.setdefault(hash, _Upload())
            with upload.lock:
                if self._uploads.get(hash) is not upload:
                    continue  # finished or dropped while we waited
                if self.touch(hash):
                    self._uploads.pop(hash)
                    yield None
                    return
                if not upload.resumed:
                    self._resume(hash, upload)
                yield upload
                return

    def _resume(self, hash: str, upload: _Upload) -> None:
        """Hash what an earlier process has received."""
        with suppress(FileNotFoundError), open(self._incoming / hash, "rb") as file:
            while piece := file.read(_PIECE_BYTES):
                upload.digest.update(piece)
                upload.size_bytes += len(piece)
        upload.resumed = True

    def _drop(self, hash: str) -> None:
        """Forget an upload that is held."""
        partial = self._incoming / hash
        with suppress(FileNotFoundError):
            size = partial.stat().st_size
            partial.unlink()
            self._grow(-size)
        self._uploads.pop(hash, None)

    def _reserve(self, hash: str, size: int) -> None:
        with self._lock:
            if self.max_bytes is not None and self._total + size > self.max_bytes:
                raise StoreFull(
                    f"{size} more bytes do not fit into {self.max_bytes} bytes of {self.folder}",
                    hint="raise the bound, or wait until runs end",
                    object=hash,
                )
            self._total += size

    def _grow(self, size: int) -> None:
        with self._lock:
            self._total += size

    def _count(self, hash: str, size: int) -> None:
        """Count an object that another process has put here."""
        with self._lock:
            if hash not in self._sizes:
                self._sizes[hash] = size
                self._total += size

    def _publish(self, partial: Path, final: Path) -> None:
        """Give a whole file its final name; safe against a power cut before and after."""
        now = self._clock.now()
        os.utime(partial, (now, now))
        if self._durable:
            sync(partial)
        else:
            final.parent.mkdir(exist_ok=True)
        # The lock, so that nobody counts it as a stranger's between its name and its size.
        with self._lock:
            size = partial.stat().st_size
            if self._durable:
                self._unsafe.add(final.name)
            partial.replace(final)
            self._sizes[final.name] = size
        if self._durable:
            try:
                sync(final.parent)
            except OSError:
                final.replace(partial)
                self._sizes.pop(final.name, None)
                raise
            finally:
                self._unsafe.discard(final.name)


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def _full(path: Path, error: OSError) -> StoreFull:
    is_files = error.errno in _TOO_MANY_FILES
    hint = "raise the limit of open files: ulimit -n" if is_files else "make room on that disk"
    return StoreFull(f"cannot write {path}: {error.strerror}", hint=hint)
