"""A server that starts goes on removing, and removes what has been over for long enough."""

import asyncio
import logging

import pytest

from umbel.coordinator import (
    RunEnded,
    RunErased,
    RunRemoved,
    RunSubmitted,
    TokenCreated,
    TokensExpired,
    event_from_json,
    event_to_json,
)
from umbel.deployment.server.runspec import RunSpec
from umbel.deployment.server.server import Server
from umbel.deployment.server.settings import ServerSettings
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.store import SqlJournal

DAY_S = 86_400.0


def spec(app):
    run = wire.RunInfo(bundle=wire.Object(hash=app, size_bytes=1))
    return RunSpec(wire.SubmitRequest(run=run)).encode()


@pytest.fixture
def data(tmp_path):
    """The folder of a server that was killed between the removal of ``half`` and its effects."""
    events = [TokenCreated(at=1.0, token="t", role="node", name="", expires_at=2.0)]
    for name in ("half", "old", "recent"):
        events.append(RunSubmitted(at=1.0, run=name, owner="u", spec=spec(f"app-{name}")))
        at = 1.0 if name == "old" else 1e12
        events.append(RunEnded(at=at, run=name, status="failed"))
        for folder in (tmp_path / "runs" / name, tmp_path / "apps" / f"app-{name}"):
            (folder / "within").mkdir(parents=True)
            (folder / "within" / "file").touch()
    events.append(RunRemoved(at=1e12, run="half"))
    (tmp_path / "runs" / "a stranger").mkdir()  # of a journal that was lost, say
    journal = SqlJournal(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    journal.append([event_to_json(event) for event in events])
    journal.close()
    return tmp_path


def start_and_close(data, **settings):
    """Return what happens in a server that is closed as soon as it works."""

    async def main():
        server = Server(ServerSettings(data, port=0, insecure=True, **settings))
        await server.start()
        await asyncio.sleep(0)  # the first look for what has had its time
        await server.close()

    asyncio.run(main())
    journal = SqlJournal(f"sqlite:///{data / 'journal.sqlite'}")
    events = [event_from_json(entry) for _, entry in journal.read()][8:]
    journal.close()
    return [(type(event), getattr(event, "run", None)) for event in events]


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_for_ever_unless_told_otherwise(data):
    assert set(start_and_close(data)) == {(RunErased, "half"), (TokensExpired, None)}
    assert names(data / "runs") == {"old", "recent", "a stranger"}
    assert names(data / "apps") == {"app-old", "app-recent"}
    assert start_and_close(data)[2:] == []


@pytest.mark.parametrize("fsync", [False, True])
def test_as_many_days_as_told(data, caplog, fsync):
    caplog.set_level(logging.INFO, "umbel.deployment")
    happened = start_and_close(data, keep_runs_s=30 * DAY_S, fsync=fsync)
    kept = {(RunErased, "half"), (TokensExpired, None), (RunRemoved, "old"), (RunErased, "old")}
    assert set(happened) == kept
    assert names(data / "runs") == {"recent", "a stranger"}
    assert names(data / "apps") == {"app-recent"}
    assert "removing run old" in caplog.text


def test_what_cannot_be_deleted_is_tried_again(data, caplog, monkeypatch):
    monkeypatch.setattr("shutil.rmtree", refuse)
    assert (RunErased, "half") not in start_and_close(data)
    assert "not all of run half is gone" in caplog.text
    monkeypatch.undo()
    assert (RunErased, "half") in start_and_close(data)


def refuse(folder, **options):
    if "runs" in str(folder):
        raise PermissionError(f"{folder} is not yours")
