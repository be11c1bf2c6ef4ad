"""Contents as workers get them: each model goes out once, whatever the number of messages."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable

from umbel.records import ArrayRecord, RecordDict, encode
from umbel.simulation.executor import Executor, join
from umbel.simulation.job import WorkerState
from umbel.simulation.tasks import Batch, ContentSpec

_KEPT_MAX = 2


class Publisher:
    """Gives contents and arrays numbers, publishes them, and retires them after use."""

    def __init__(self, executor: Executor, workers: list[WorkerState]) -> None:
        self._executor = executor
        self._workers = workers
        self._contents: dict[int, ContentSpec] = {}
        self._job_contents: dict[int, list[int]] = defaultdict(list)
        self._users: dict[int, set[int]] = defaultdict(set)
        self._frozen: OrderedDict[tuple[object, ...], tuple[int, ArrayRecord]] = OrderedDict()
        self._count = 0

    def add(self, job: int, contents: Iterable[RecordDict]) -> list[int]:
        """Return the number of each content, publishing what was not published yet."""
        by_arrays: dict[int, int] = {}
        by_parts: dict[tuple[object, ...], int] = {}
        numbers = []
        for content in contents:
            # Many contents are the same records, each time in a dictionary of their own.
            parts = tuple((name, id(record)) for name, record in content.items())
            number = by_parts.get(parts)
            if number is None:
                number = by_parts[parts] = self._publish(job, content, by_arrays)
            numbers.append(number)
        return numbers

    def equip(self, batch: Batch, worker: WorkerState) -> None:
        """Put into a batch what its worker has not seen, and what it may forget."""
        for task in batch.tasks:
            if task.content in worker.contents:
                continue
            spec = batch.contents[task.content] = self._contents[task.content]
            worker.contents.add(task.content)
            for _, blob in spec.arrays:
                if blob not in worker.blobs:
                    batch.blobs[blob] = None
                    worker.blobs.add(blob)
        batch.forget_contents, worker.forget_contents = worker.forget_contents, []
        batch.forget_blobs, worker.forget_blobs = worker.forget_blobs, []

    def finish(self, job: int) -> None:
        """Retire what only this job used."""
        for number in self._job_contents.pop(job, []):
            spec = self._contents.pop(number)
            for worker in self._workers:
                if number in worker.contents:
                    worker.contents.discard(number)
                    worker.forget_contents.append(number)
            for _, blob in spec.arrays:
                self._users[blob].discard(job)
        kept = {blob for blob, _ in self._frozen.values()}
        for blob in [b for b, users in self._users.items() if not users and b not in kept]:
            self._retire(blob)

    def _publish(self, job: int, content: RecordDict, by_arrays: dict[int, int]) -> int:
        arrays = []
        small = RecordDict()
        for name, record in content.items():
            if isinstance(record, ArrayRecord):
                blob = by_arrays.get(id(record))
                if blob is None:
                    blob = by_arrays[id(record)] = self._blob(record)
                self._users[blob].add(job)
                arrays.append((name, blob))
            else:
                small[name] = record
        number = self._next()
        self._contents[number] = ContentSpec(join(encode(small)), tuple(arrays), tuple(content))
        self._job_contents[job].append(number)
        return number

    def _blob(self, record: ArrayRecord) -> int:
        """Publish arrays, unless they are those of an earlier job and cannot have changed."""
        frozen = all(array.frozen for array in record.values())
        key = tuple((name, id(array)) for name, array in record.items())
        if frozen and key in self._frozen:
            return self._frozen[key][0]
        blob = self._next()
        self._executor.publish(blob, encode(RecordDict({"arrays": record})))
        if frozen:
            # The copy keeps the arrays alive, so that their ids stay theirs.
            self._frozen[key] = blob, record.copy()
            if len(self._frozen) > _KEPT_MAX:
                self._frozen.popitem(last=False)
        return blob

    def _retire(self, blob: int) -> None:
        del self._users[blob]
        for worker in self._workers:
            if blob in worker.blobs:
                worker.blobs.discard(blob)
                worker.forget_blobs.append(blob)
        self._executor.retire(blob)

    def _next(self) -> int:
        self._count += 1
        return self._count
