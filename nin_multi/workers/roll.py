"""Connections from every worker to worker 0 beside the framework's own: a roll call over them, and who is gone.

Nothing but "here" and "all here" goes over them. A connection ends with its worker, however that ends.
"""

from __future__ import annotations

import contextlib
import secrets
import selectors
import socket
import struct
import time
from collections.abc import Callable

import numpy as np

from nin_multi.workers.group import Sums, WorkerLost, lost

SILENCE = 600.0  # seconds for which one waits for the others in the middle of a step
_GREETING = struct.Struct("!II")  # the run's number, and whose connection it is


class RollCall:
    """This worker's connections: worker 0 has one to each of the others, and they have one to worker 0."""

    def __init__(
        self,
        backend: str,
        rank: int,
        size: int,
        meeting: tuple[str, int],
        tell: Callable[[Sums], Sums],
        seconds: float,
    ) -> None:
        """`meeting`: host and port where the workers met. `tell` sums over them: so all know where worker 0 is.

        Raises WorkerLost.
        """
        self.backend, self.rank, self.size = backend, rank, size
        self._peers: dict[int, socket.socket] = {}
        try:
            self._connect(meeting, tell, seconds)
        except BaseException:
            self.close()
            raise
        for peer in self._peers.values():
            peer.settimeout(SILENCE)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self) -> None:
        """Return when all workers have called. Raises WorkerLost for one that is gone, or silent for too long."""
        if self.rank == 0:
            self._hear_all()
        for rank, peer in self._peers.items():
            try:
                peer.sendall(b"!")
            except OSError as error:
                raise self._loss(rank) from error
        if self.rank:
            self._hear(0)

    def check(self) -> None:
        """Raises WorkerLost for one that is gone, which is known without waiting; for those who never call the roll."""
        for rank, peer in self._peers.items():
            peer.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                self._hear(rank)
            peer.settimeout(SILENCE)

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()

    def _connect(self, meeting: tuple[str, int], tell: Callable[[Sums], Sums], seconds: float) -> None:
        if self.rank == 0:
            with socket.create_server((_own_address(meeting), 0)) as listener:
                host, port = listener.getsockname()
                number = secrets.randbits(32)
                tell(np.array([*socket.inet_aton(host), port, number], np.float64))
                self._accept(listener, number, time.monotonic() + seconds)
        else:
            *octets, port, number = (int(value) for value in tell(np.zeros(6)))
            try:
                self._peers[0] = socket.create_connection((socket.inet_ntoa(bytes(octets)), port), seconds)
                self._peers[0].sendall(_GREETING.pack(number, self.rank))
            except OSError as error:
                raise self._loss(0) from error

    def _hear_all(self) -> None:
        """In whatever order they call: who is gone is known at once."""
        with selectors.DefaultSelector() as waiting:
            for rank, peer in self._peers.items():
                waiting.register(peer, selectors.EVENT_READ, rank)
            while known := waiting.get_map():
                ready = waiting.select(SILENCE)
                if not ready:
                    raise self._loss(min(key.data for key in known.values()))
                for key, _ in ready:
                    self._hear(key.data)
                    waiting.unregister(key.fileobj)

    def _hear(self, rank: int) -> None:
        try:
            heard = self._peers[rank].recv(1)
        except BlockingIOError:
            raise
        except OSError as error:
            raise self._loss(rank) from error
        if not heard:
            raise self._loss(rank)

    def _accept(self, listener: socket.socket, number: int, end: float) -> None:
        """A connection from each of the others; whoever else comes does not know the number."""
        while len(self._peers) < self.size - 1:
            listener.settimeout(max(end - time.monotonic(), 0.001))
            try:
                peer, _ = listener.accept()
                peer.settimeout(max(end - time.monotonic(), 0.001))
                greeting = peer.recv(_GREETING.size, socket.MSG_WAITALL)
            except OSError as error:
                missing = next(rank for rank in range(1, self.size) if rank not in self._peers)
                raise self._loss(missing) from error
            told, rank = _GREETING.unpack(greeting) if len(greeting) == _GREETING.size else (-1, 0)
            if told == number and 0 < rank < self.size:
                self._peers[rank] = peer
            else:
                peer.close()

    def _loss(self, rank: int) -> WorkerLost:
        return lost(self.backend, self.rank, self.size, rank)


def _own_address(meeting: tuple[str, int]) -> str:
    """This machine's, as those see it who come from where the workers met."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(meeting)  # nothing is sent
        host: str = probe.getsockname()[0]
    return host
