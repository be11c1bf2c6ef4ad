"""Frames over a Unix socket: plain Python values, and descriptors of shared memory.

Both ends are processes of one run on the same interpreter, so values travel by ``marshal``: it
knows numbers, strings, bytes and containers, and can carry no code.
"""

from __future__ import annotations

import array
import marshal
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from umbel.base import StateError

_HEADER = struct.Struct("<QI")
_FDS_A_MESSAGE = 200  # the kernel takes 253
_FD_BYTES = array.array("i").itemsize
_ANCILLARY_BYTES = socket.CMSG_LEN(_FDS_A_MESSAGE * _FD_BYTES)
_CLOEXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # macOS lacks it


class Closed(Exception):
    """The other end is gone."""


class Channel:
    """One end of a connection between the engine and a process of its own.

    Examples
    --------
    >>> left, right = Channel.pair()
    >>> left.send(("hello", 1))
    >>> right.receive()
    (('hello', 1), [])
    >>> left.close(); right.close()
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._cut_off = False

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Return the two ends of a new connection."""
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(left), cls(right)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self.sock.fileno()

    def send(self, value: Any, fds: list[int] | None = None) -> None:
        """Send a value and descriptors.

        Raises
        ------
        Closed
            The other end is gone.
        """
        body = marshal.dumps(value)
        fds = fds or []
        with self._frame():
            self.sock.sendall(_HEADER.pack(len(body), len(fds)) + body)
            for start in range(0, len(fds), _FDS_A_MESSAGE):
                part = array.array("i", fds[start : start + _FDS_A_MESSAGE])
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, part)]
                self.sock.sendmsg([b"+"], ancillary)

    def receive(self) -> tuple[Any, list[int]]:
        """Wait for a value and its descriptors, which the caller owns from now on.

        Raises
        ------
        Closed
            The other end is gone.
        StateError
            This process has no room for the descriptors.
        """
        fds: list[int] = []
        with self._frame():
            try:
                size, count = _HEADER.unpack(self._exactly(_HEADER.size))
                body = self._exactly(size)
                while len(fds) < count:
                    self._receive_fds(fds)
            except BaseException:
                for fd in fds:
                    os.close(fd)
                raise
        return marshal.loads(body), fds

    def close(self) -> None:
        """Close this end."""
        self.sock.close()

    def _exactly(self, size: int) -> bytearray:
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            got = self.sock.recv_into(view)
            if not got:
                raise Closed
            view = view[got:]
        return buffer

    def _receive_fds(self, fds: list[int]) -> None:
        # Not `socket.recv_fds`, which ignores its flags before Python 3.12.
        mark, parts, flags, _ = self.sock.recvmsg(1, _ANCILLARY_BYTES, _CLOEXEC)
        if not mark:
            raise Closed
        for _, _, part in parts:
            fds += memoryview(part[: len(part) // _FD_BYTES * _FD_BYTES]).cast("i")
        if flags & socket.MSG_CTRUNC:
            # What did not fit is gone; to wait for it would be to wait for ever.
            raise StateError(
                "this process has as many open files as it may have",
                hint="raise the limit (ulimit -n), or let go of replies once they are read",
            )

    @contextmanager
    def _frame(self) -> Iterator[None]:
        """Hang up if a frame is cut off, by Ctrl-C perhaps: what follows makes no sense."""
        if self._cut_off:
            raise Closed
        try:
            yield
        except OSError as error:
            raise Closed from error
        except BaseException:
            self._cut_off = True
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
            raise
