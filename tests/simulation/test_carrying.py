"""What scripts define reaches the workers."""

import fnmatch
import functools
import pickle
import subprocess
import sys

import pytest

from umbel.simulation.carrying import carried

SCRIPT = """
import functools
import sys

from umbel import ClientApp, Message, RecordDict, ServerApp, run_simulation

client_app, server_app = ClientApp(), ServerApp()


@functools.cache
def factorial(n):
    return n * factorial(n - 1) if n else 1


@client_app.query()
def answer(message, context):
    assert factorial(4) == 24
    return Message(RecordDict(), reply_to=message)


@server_app.main()
def main(grid, context):
    replies = grid.send_and_receive([Message(RecordDict(), 0, "query")])
    return [reply.has_content() for reply in replies]


if __name__ == "__main__":
    print(run_simulation(server_app, client_app, 1, sys.argv[1]))
"""


def test_a_function_under_a_cache_is_carried_with_its_cache_empty():
    calls = []

    @functools.lru_cache(maxsize=7, typed=True)
    def factorial(n):
        calls.append(n)
        return n * factorial(n - 1) if n else 1

    assert factorial(3) == 6
    there = pickle.loads(carried(factorial))
    assert there.cache_parameters() == {"maxsize": 7, "typed": True}
    assert there.cache_info().currsize == 0
    assert (there(4), there.cache_info().currsize) == (24, 5)
    assert calls == [3, 2, 1, 0]  # it shares nothing with the one here


def test_a_function_of_a_module_is_carried_by_its_name():
    assert pickle.loads(carried(fnmatch._compile_pattern)) is fnmatch._compile_pattern


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["processes", "ray"])
def test_a_script_whose_client_app_calls_a_function_under_a_cache(backend, tmp_path):
    if backend == "ray":
        pytest.importorskip("ray")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "[True]\n", done.stderr
