import os
from pathlib import Path

import pytest

from umbel.base import SYSTEM_CLOCK, ConfigError, ProtocolError, content_hash
from umbel.deployment.node.journal import STATE_KEPT_S, Failure, Journal, Outcome

RUN = "run-1"


class Killed(BaseException):
    pass


def work(journal, message_id, state=b"new"):
    """Do what a worker does, and make it done."""
    desk = journal.prepare(RUN, message_id)
    before = desk.state.read_bytes() if desk.state.exists() else b""
    desk.new_state.write_bytes(before + state)
    desk.reply.write_bytes(b"reply to " + message_id.encode())
    journal.commit(Outcome(RUN, message_id, 9, "h", None, True))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "node"


@pytest.fixture
def opened(folder):
    """Return a function that opens the journal, as a node does that starts after another died."""
    journals = []

    def reopen():
        for journal in journals:
            journal.close()
        journals.append(Journal(folder))
        return journals[-1]

    yield reopen
    for journal in journals:
        journal.close()


def test_what_is_done_is_there_after_a_restart_until_it_is_forgotten(opened, folder):
    journal = opened()
    for name in ("b", "a"):
        work(journal, name)
    failed = Outcome(RUN, "c", failure=Failure(2, "ValueError", "no data"))
    journal.commit(failed)
    again = opened()
    assert [outcome.message_id for outcome in again.done()] == ["b", "a", "c"]
    assert again.find("c") == failed
    assert again.reply_path(again.find("a")).read_bytes() == b"reply to a"
    for name in "abc":
        again.forget(name)
    assert opened().done() == []
    assert (folder / "runs" / RUN / "state").read_bytes() == b"newnew"
    assert not list((folder / "runs" / RUN / "replies").iterdir())


def test_what_a_power_cut_left_half_is_not_done(opened, folder):
    journal = opened()
    for name in ("whole", "half", "none", "record"):
        journal.prepare(RUN, name).reply.write_bytes(b"reply")
        journal.commit(Outcome(RUN, name, 5, content_hash([b"reply"])))
    run = folder / "runs" / RUN
    (run / "replies" / "half").write_bytes(b"re\0\0\0")
    (run / "replies" / "none").unlink()
    (run / "done" / "record.json").write_bytes(b"")
    assert [outcome.message_id for outcome in opened().done()] == ["whole"]
    assert [path.name for path in (run / "done").iterdir()] == ["whole.json"]
    assert [path.name for path in (run / "replies").iterdir()] == ["whole"]


@pytest.mark.parametrize("step", range(8))
def test_killed_at_any_change_of_the_disk_a_task_is_done_once(opened, folder, monkeypatch, step):
    journal = opened()
    work(journal, "first")
    journal.forget("first")
    seen = []
    for name in ("replace", "unlink"):
        real = getattr(os, name)

        def call(*args, real=real):
            if len(seen) == step:
                raise Killed
            seen.append(args)
            return real(*args)

        monkeypatch.setattr(os, name, call)
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: _unlink(path, missing_ok))
    acknowledged = False
    try:
        work(journal, "second")
        journal.forget("second")
        acknowledged = True
    except Killed:
        pass
    monkeypatch.undo()
    again = opened()
    state = folder / "runs" / RUN / "state"
    outcome = again.find("second")
    if outcome is not None:
        assert again.reply_path(outcome).read_bytes() == b"reply to second"
    elif state.read_bytes() == b"new":
        work(again, "second")  # it was never done: the server sends it again
    else:
        assert acknowledged or step >= 4  # it was being forgotten
    assert state.read_bytes() == b"newnew"
    assert not list((folder / "runs" / RUN / "states").iterdir())


def _unlink(path, missing_ok):
    try:
        os.unlink(path)
    except FileNotFoundError:
        if not missing_ok:
            raise


def test_an_attempt_that_was_not_committed_leaves_nothing(opened, folder):
    journal = opened()
    desk = journal.prepare(RUN, "m")
    desk.new_state.write_bytes(b"half")
    desk.reply.write_bytes(b"half")
    again = opened()
    assert again.done() == []
    assert not desk.new_state.exists()
    assert not desk.reply.exists()


def test_a_run_is_forgotten_with_all_it_has(opened, folder):
    journal = opened()
    work(journal, "m")
    journal.forget_run(RUN)
    assert journal.done() == []
    assert not (folder / "runs" / RUN).exists()


def test_the_state_of_an_old_run_is_swept(opened, folder):
    journal = opened()
    for run in ("old", "young"):
        desk = journal.prepare(run, "m")
        desk.new_state.write_bytes(b"state")
        journal.commit(Outcome(run, "m", 1, "x", has_state=True))
        journal.forget_run(run, with_state=False)
    long_ago = SYSTEM_CLOCK.now() - STATE_KEPT_S - 1
    os.utime(folder / "runs" / "old" / "state", (long_ago, long_ago))
    opened()
    assert [path.name for path in (folder / "runs").iterdir()] == ["young"]


def test_a_folder_is_for_one_node(opened, folder):
    opened()
    with pytest.raises(ConfigError, match="another node runs in this folder"):
        Journal(folder)


@pytest.mark.parametrize(
    "names", [("..", "m"), ("a/b", "m"), ("", "m"), (".run", "m"), ("r", "../m")]
)
def test_names_that_are_paths_are_refused(opened, folder, names):
    journal = opened()
    with pytest.raises(ProtocolError, match="no such names"):
        journal.prepare(*names)
