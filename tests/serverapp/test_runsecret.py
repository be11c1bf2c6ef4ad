"""The secret that noise is made from: the same as long as the run lives, and gone after it."""

import os
import stat

import pytest

from umbel.base import ProtocolError, Seeds
from umbel.records import ArrayRecord
from umbel.serverapp import Result, Run, note_success


@pytest.fixture
def run(tmp_path):
    """Return a function that opens the run in a folder, again and again."""
    opened = []

    def make(resume=False, **options):
        run = Run(seeds=Seeds(7), folder=tmp_path, resume=resume, resumable=True, **options)
        if not resume:
            run.emit("run_started", run_id=run.run_id, seed=7, run_config={})
        opened.append(run)
        return run

    yield make
    for each in opened:
        each.close()


def test_names_part_secrets_and_runs_part_them():
    first, second = Run(), Run()
    assert len({first.secret("a"), first.secret("b"), second.secret("a")}) == 3
    assert first.secret("a") == first.secret("a")
    assert len(first.secret("a")) == 32


def test_only_a_simulations_follows_from_the_seed(tmp_path):
    def secret(seed, **options):
        return Run(seeds=Seeds(seed), **options).secret("noise")

    assert secret(7, simulated=True) == secret(7, simulated=True) != secret(8, simulated=True)
    assert secret(7) != secret(7)
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_resumed_has_the_same(run, tmp_path):
    first = run()
    assert not (tmp_path / "secret.key").exists()  # it is made when it is asked for
    secret = first.secret("noise")
    first.close()
    assert run(resume=True).secret("noise") == secret
    assert not list(tmp_path.glob("*.part"))
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_it_goes_when_the_run_is_over(run, tmp_path):
    one = run()
    one.secret("noise")
    note_success(one, 3, None, 1.0)
    assert not (tmp_path / "secret.key").exists()
    assert [entry.event for entry in one.log.entries()][-1] == "run_finished"


def test_a_simulation_writes_none(run, tmp_path):
    run(simulated=True).secret("noise")
    assert not (tmp_path / "secret.key").exists()


def test_a_file_that_was_cut_is_refused(run, tmp_path):
    (tmp_path / "secret.key").write_bytes(b"short")
    with pytest.raises(ProtocolError, match="has 5 bytes"):
        run().secret("noise")


def test_results_have_no_statement_of_themselves():
    assert Result(ArrayRecord()).privacy is None
