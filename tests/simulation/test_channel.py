from __future__ import annotations

import array
import fcntl
import os
import resource
import signal
import socket
import termios
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.base import StateError
from umbel.simulation.channel import Channel, Closed

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.fixture
def ends():
    left, right = Channel.pair()
    yield left, right
    left.close()
    right.close()


def open_fds():
    return len(os.listdir("/proc/self/fd"))


@settings(max_examples=40)
@given(st.lists(PLAIN, max_size=4))
def test_plain_values_arrive_as_they_were(values):
    left, right = Channel.pair()
    try:
        for value in values:
            left.send(value)
        assert [right.receive() for _ in values] == [(value, []) for value in values]
    finally:
        left.close()
        right.close()


@pytest.mark.parametrize("count", [1, 2, 199, 200, 201, 500])
def test_any_number_of_descriptors_arrives(count, ends):
    left, right = ends
    before = open_fds()
    files = [os.memfd_create("test") for _ in range(count)]
    for number, fd in enumerate(files):
        os.write(fd, str(number).encode())
    sender = threading.Thread(target=left.send, args=("those", files))
    sender.start()
    value, fds = right.receive()
    sender.join()
    assert value == "those"
    assert [int(os.pread(fd, 9, 0)) for fd in fds] == list(range(count))
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in [*files, *fds]:
        os.close(fd)
    assert open_fds() == before


def test_messages_and_descriptors_do_not_mix(ends):
    left, right = ends
    fds = [os.memfd_create("test") for _ in range(3)]
    left.send(1, fds[:1])
    left.send(2)
    left.send(3, fds[1:])
    got = [right.receive() for _ in range(3)]
    assert [(value, len(received)) for value, received in got] == [(1, 1), (2, 0), (3, 2)]
    for fd in [*fds, *(fd for _, received in got for fd in received)]:
        os.close(fd)


def test_a_large_message_arrives(ends):
    left, right = ends
    body = os.urandom(1 << 20) * 8
    sender = threading.Thread(target=left.send, args=(body,))
    sender.start()
    assert right.receive() == (body, [])
    sender.join()


def test_a_peer_that_is_gone(ends):
    left, right = ends
    left.send("last words")
    left.close()
    assert right.receive() == ("last words", [])
    with pytest.raises(Closed):
        right.receive()
    with pytest.raises(Closed):
        right.send("anybody?")


def test_a_peer_that_goes_in_the_middle_of_a_message(ends):
    left, right = ends
    left.sock.sendall(b"\x10" + bytes(11) + b"half")
    left.close()
    with pytest.raises(Closed):
        right.receive()


def test_descriptors_that_find_no_room_are_told_and_not_waited_for(ends):
    left, right = ends
    fds = [os.memfd_create("test") for _ in range(20)]
    left.send("those", fds)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(fds) + 5, hard))
    try:
        with pytest.raises(StateError, match="open files"):
            right.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fds:
            os.close(fd)


def test_descriptors_of_a_message_that_never_ends_are_closed(ends):
    left, right = ends
    fd = os.memfd_create("test")
    left.sock.sendall(b"\x01" + bytes(7) + b"\x02" + bytes(3) + b"N")
    part = array.array("i", [fd])
    left.sock.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, part)])
    left.close()
    before = open_fds()
    with pytest.raises(Closed):
        right.receive()
    assert open_fds() == before
    os.close(fd)


def test_after_ctrl_c_in_the_middle_of_a_message_there_is_none(ends):
    """What follows would be taken for the beginning of another."""
    left, right = ends
    main = threading.get_ident()

    def send():
        left.sock.sendall(b"\x10" + bytes(11) + b"half")
        unread = array.array("i", [1])
        while unread[0]:
            fcntl.ioctl(right.fileno(), termios.FIONREAD, unread)
        signal.pthread_kill(main, signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        right.receive()
    sender.join()
    with pytest.raises(Closed):
        right.receive()
    with pytest.raises(Closed):
        left.send("the rest")
