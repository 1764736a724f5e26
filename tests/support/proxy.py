"""A TCP proxy that loses what networks lose: it holds one direction back for ever, or resets everybody."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Literal

Direction = Literal["up", "down"]
"""`up`: from client to server."""

CHUNK = 65_536
LOOK_S = 0.05
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Link:
    """One client's connection and its pair to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.gates: dict[Direction, threading.Event] = {"up": threading.Event(), "down": threading.Event()}
        self.closed = threading.Event()
        for end in (client, server):
            end.settimeout(LOOK_S)
        for gate in self.gates.values():
            gate.set()
        for direction in self.gates:
            threading.Thread(target=self._pump, args=(direction,), daemon=True).start()

    def _pump(self, direction: Direction) -> None:
        source, sink = (self.client, self.server) if direction == "up" else (self.server, self.client)
        with contextlib.suppress(OSError):
            while data := self._received(source):
                self.gates[direction].wait()
                sink.sendall(data)
        self.gates[direction].wait()  # a held direction does not tell of a close either
        self.close()

    def _received(self, source: socket.socket) -> bytes:
        """Never long in a call: a socket that is closed under one tells its peer only when the call returns."""
        while not self.closed.is_set():
            with contextlib.suppress(TimeoutError):
                return source.recv(CHUNK)
        return b""

    def close(self, *, reset: bool = False) -> None:
        self.closed.set()
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                else:
                    end.shutdown(socket.SHUT_RDWR)
            end.close()
        for gate in self.gates.values():
            gate.set()


class TcpProxy:
    """Between clients and a port of this machine."""

    def __init__(self, port: int) -> None:
        """`port`: where the server listens."""
        self._target = ("127.0.0.1", port)
        self._links: list[_Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                self._links.append(_Link(client, server))

    def stall(self) -> int:
        """Hold back every present connection for ever, by turns in one direction and the other. How many they are."""
        directions: tuple[Direction, Direction] = ("down", "up")
        for number, link in enumerate(self._links):
            link.gates[directions[number % 2]].clear()
        return len(self._links)

    def reset(self) -> None:
        """Break every present connection, as a restarted router does."""
        links, self._links = self._links, []
        for link in links:
            link.close(reset=True)

    def close(self) -> None:
        """End it and all connections."""
        self._listener.close()
        self.reset()
