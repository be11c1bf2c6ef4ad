"""What a server app sends: bodies in the object store, and names that a resumed app gives again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from umbel.base import UsageError, content_hash, for_each, write_all, write_hashed
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ArrayRecord, Message, RecordDict, codec_of
from umbel.serverapp import Run
from umbel.store import ObjectStore

_PIECE_BYTES = 1024 * 1024

Identity = tuple[tuple[str, str, int], ...]


class Outbox:
    """Turns messages into what the wire carries.

    Arrays that several messages share are encoded, hashed and written once, and are known again in
    the phases that follow: a round's evaluation sends the file that its training wrote.

    A message is named by its run, where the run is, and its content, whatever codec the node has. A
    server app that was killed and goes on pushes the same messages under the same names, and gets
    the replies there are.
    """

    def __init__(self, run: Run, objects: ObjectStore) -> None:
        self._run = run
        self._objects = objects
        self._known: dict[Identity, tuple[dict[str, wire.Object], list[ArrayRecord]]] = {}
        self._place: tuple[object, ...] = ()
        self._count = 0

    def write(
        self, messages: Iterable[Message], codecs: Mapping[int, str]
    ) -> list[wire.OutgoingMessage]:
        """Write the bodies into the object store, and give each message its name.

        Parameters
        ----------
        messages : iterable of Message
            For nodes.
        codecs : mapping
            The codecs of nodes whose contents are not in the default one.

        Raises
        ------
        UsageError
            A message carries no content.
        """
        run = self._run
        place = (run.run_id, run.start, run.server_round, run.attempt, run.phase)
        if place != self._place:
            self._place, self._count = place, 0
        outgoing = []
        bodies: dict[str, tuple[dict[str, ArrayRecord], str]] = {}
        for message in messages:
            metadata = message.metadata
            if not message.has_content():
                raise UsageError("a message to a node needs content", node=metadata.dst_node_id)
            metadata.run_id = run.run_id
            arrays = {n: r for n, r in message.content.items() if isinstance(r, ArrayRecord)}
            body = self.write_arrays(arrays) if arrays else None
            records = _others(message.content, empty=body is None)
            named = (*place, self._count, int(metadata.dst_node_id), metadata.message_type)
            text = json.dumps([*named, body.hash if body else "", content_hash([records])])
            metadata.message_id = content_hash([text.encode()])[:32]
            self._count += 1
            if codec := codecs.get(int(metadata.dst_node_id), ""):
                body = self.write_arrays(arrays, codec) if arrays else None
                records = _others(message.content, empty=body is None, codec=codec)
            if body is not None:
                bodies[body.hash] = arrays, codec
            outgoing.append(
                wire.OutgoingMessage(
                    message_id=metadata.message_id,
                    node_id=int(metadata.dst_node_id),
                    message_type=metadata.message_type,
                    group_id=metadata.group_id,
                    created_at=metadata.created_at,
                    ttl_s=metadata.ttl,
                    body=body,
                    records=records,
                    codec=codec,
                )
            )
        for name, (arrays, codec) in bodies.items():
            # One that nothing referred to for a while may be gone, or about to go.
            if not self._objects.touch(name):
                self._put(arrays, codec)
        return outgoing

    def write_arrays(self, arrays: dict[str, ArrayRecord], codec: str = "") -> wire.Object:
        """Return the object that holds these array records, written unless it is known."""
        key = _identity(arrays)
        if key not in self._known:
            self.know(arrays, self._put(arrays, ""))
        written, _ = self._known[key]
        if codec not in written:
            written[codec] = self._put(arrays, codec)
        return written[codec]

    def known(self, arrays: dict[str, ArrayRecord]) -> wire.Object | None:
        """Return the object that holds these array records, if they were written lately."""
        entry = self._known.get(_identity(arrays))
        return None if entry is None else entry[0][""]

    def know(self, arrays: dict[str, ArrayRecord], written: wire.Object) -> None:
        """Remember which object these array records are; of those before, only the last two."""
        while len(self._known) > 1:
            del self._known[next(iter(self._known))]
        # Copies share the arrays, whose identity is theirs as long as they live.
        copies = [record.copy() for record in arrays.values()]
        self._known[_identity(arrays)] = {"": written}, copies

    def _put(self, arrays: dict[str, ArrayRecord], codec: str) -> wire.Object:
        return put(self._objects, codec_of(codec).encode(RecordDict(dict(arrays))))


def put(objects: ObjectStore, buffers: Sequence[bytes | memoryview]) -> wire.Object:
    """Write an object under the name that its bytes give it."""
    size = sum(memoryview(buffer).nbytes for buffer in buffers)
    names: list[str] = []
    with _new_file(objects) as (path, file):

        def name() -> None:
            names.append(content_hash(buffers))

        def write() -> None:
            write_all(file, buffers)

        for_each(_call, (name, write), size)  # neither needs the interpreter meanwhile
        objects.put_file(path, names[0])
    return wire.Object(hash=names[0], size_bytes=size)


def put_copy(objects: ObjectStore, path: Path) -> wire.Object:
    """Write a copy of a file as an object, a piece at a time."""
    with _new_file(objects) as (copy, file), path.open("rb") as source:
        size, name = write_hashed(file, iter(lambda: source.read(_PIECE_BYTES), b""))
        objects.put_file(copy, name)
    return wire.Object(hash=name, size_bytes=size)


@contextmanager
def _new_file(objects: ObjectStore) -> Iterator[tuple[Path, IO[bytes]]]:
    """Give a file beside the objects, which is gone at the end unless it has become one."""
    handle, name = tempfile.mkstemp(dir=objects.folder, prefix="outgoing-")
    path = Path(name)
    try:
        with open(handle, "wb", buffering=0) as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


def _call(step: Callable[[], None]) -> None:
    step()


def _others(content: RecordDict, *, empty: bool, codec: str = "") -> bytes:
    """Encode the records without arrays; nothing if there are none, unless an empty file is due."""
    others = {name: r for name, r in content.items() if not isinstance(r, ArrayRecord)}
    if not others and not empty:
        return b""
    return b"".join(codec_of(codec).encode(RecordDict(others)))


def _identity(arrays: dict[str, ArrayRecord]) -> Identity:
    return tuple(
        (name, key, id(array)) for name, record in arrays.items() for key, array in record.items()
    )
