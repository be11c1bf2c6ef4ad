"""How a run ends: the final model, or the failure, in its folder and its log."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from umbel.base import content_hash
from umbel.records import ArrayRecord, RecordDict, encode
from umbel.serverapp.checkpoint import StoredArrays
from umbel.serverapp.result import Result
from umbel.serverapp.run import Run


def note_failure(run: Run, error: BaseException, seconds: float) -> None:
    """Log that the run failed, or was interrupted, after so many seconds."""
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    run.emit(
        "run_failed",
        status=status,
        error=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
        seconds=seconds,
    )


def note_success(run: Run, rounds: int, model_sha256: str | None, seconds: float) -> None:
    """Log that the run is over; its secrets are removed first, for nothing is to be done again."""
    run.forget_secrets()
    run.emit(
        "run_finished",
        status="succeeded",
        seconds=seconds,
        rounds=rounds,
        model_sha256=model_sha256,
    )


def conclude(
    run: Run, value: Any, stored: Callable[[ArrayRecord], StoredArrays | None] | None = None
) -> tuple[int, str | None]:
    """Write the final model, if there is one; return the number of rounds and its hash.

    The model is that of the result which ``main`` returned, or of the last strategy that ran. Where
    ``Grid.stored`` knows its file, it is not hashed again.
    """
    result = value if isinstance(value, Result) else run.result
    if result is None:
        return 0, None
    body = encode(RecordDict({"arrays": result.arrays}))
    if run.folder is not None:
        with (run.folder / "model.safetensors").open("wb") as file:
            file.writelines(body)
    known = None if stored is None else stored(result.arrays)
    return result.rounds, content_hash(body) if known is None else known.sha256
