"""The floor: the same client function in a bare loop, without messages, failures or isolation."""

from __future__ import annotations

import multiprocessing
import sys
import time

import numpy as np

from cases.report import print_report


def fold(model: list[np.ndarray], clients: range) -> tuple[list[np.ndarray], int]:
    """Call each client, add its weighted reply, forget it."""
    from cases.trivial import add_one

    total, weight = [], 0
    for client in clients:
        reply, examples = add_one(model), client + 1
        if not total:
            total = [array * examples for array in reply]
        else:
            for kept, array in zip(total, reply, strict=True):
                kept += array * examples
        weight += examples
    return total, weight


def trivial(clients: int, kilobytes: int, rounds: int) -> list[float]:
    """One process."""
    from cases.trivial import make_model

    model, seconds = make_model(kilobytes), []
    for _ in range(rounds):
        begin = time.perf_counter()
        total, weight = fold(model, range(clients))
        model = [array / weight for array in total]
        seconds.append(time.perf_counter() - begin)
    return seconds


def trivial_side_by_side(clients: int, kilobytes: int, rounds: int, processes: int) -> list[float]:
    """Processes that share the clients and nothing else: what the machine's memory allows."""
    context = multiprocessing.get_context("spawn")
    meeting = context.Barrier(processes + 1)
    others = [
        context.Process(
            target=_fold_a_share, args=(meeting, kilobytes, rounds, range(i, clients, processes))
        )
        for i in range(processes)
    ]
    for other in others:
        other.start()
    seconds = []
    for _ in range(rounds):
        meeting.wait()
        begin = time.perf_counter()
        meeting.wait()
        seconds.append(time.perf_counter() - begin)
    for other in others:
        other.join()
    return seconds


def _fold_a_share(meeting, kilobytes: int, rounds: int, clients: range) -> None:
    from cases.trivial import make_model

    model = make_model(kilobytes)
    for _ in range(rounds):
        meeting.wait()
        fold(model, clients)
        meeting.wait()


def _prepare() -> None:
    global _data, _net
    import torch

    from cases.cnn import load, make_net

    torch.set_num_threads(1)
    _data, _net = load(), make_net()


def _train_one(task: tuple[int, dict]) -> tuple[dict, int]:
    import torch

    from cases.cnn import train

    client, state = task
    _net.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    train(_net, *_data, client)
    return {key: value.numpy() for key, value in _net.state_dict().items()}, 600


def cnn(clients: int, rounds: int, processes: int) -> list[float]:
    """A plain pool of processes that pickles models through pipes."""
    import numpy as np

    from cases.cnn import CLIENTS, make_net

    state = {key: value.numpy().copy() for key, value in make_net().state_dict().items()}
    draw, seconds = np.random.default_rng(0), []
    with multiprocessing.get_context("spawn").Pool(processes, _prepare) as pool:
        for _ in range(rounds):
            begin = time.perf_counter()
            cohort = sorted(draw.choice(CLIENTS, clients, replace=False).tolist())
            replies = pool.imap(_train_one, [(client, state) for client in cohort])
            total = None
            for reply, examples in replies:
                if total is None:
                    total = {key: value * examples for key, value in reply.items()}
                else:
                    for key, value in reply.items():
                        total[key] += value * examples
            state = {key: value / (600 * clients) for key, value in (total or {}).items()}
            seconds.append(time.perf_counter() - begin)
    return seconds


if __name__ == "__main__":
    kind, clients, size, rounds, processes = sys.argv[1], *map(int, sys.argv[2:6])
    if kind == "trivial" and processes == 1:
        print_report(trivial(clients, size, rounds))
    elif kind == "trivial":
        print_report(trivial_side_by_side(clients, size, rounds, processes))
    else:
        print_report(cnn(clients, rounds, processes))
