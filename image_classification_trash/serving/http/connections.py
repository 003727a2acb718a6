"""Holds connections within limits: how many, how slow, and how much of the event loop's time each gets.

uvicorn has none of these: it accepts connections until no file descriptor is left, waits for a request's head for ever, and
parses what it received in one go, however small the chunks are. `BoundedConfig` makes it use the loop and the protocol here.

    head        a request's first line and headers have ten seconds; an idle connection has uvicorn's five
    body        gateway.py has its deadline; once the answer is sent, the rest of a body has two seconds
    answer      a client that takes nothing of it for 30 seconds is cut off
    number      at the limit, the connection that has waited longest for a request gives way to a new one, then an upload of
                less than 1,000 bytes a second; if there is neither, new ones wait to be accepted
"""

import asyncio
import functools
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from image_classification_trash.serving.operations.quiet_log import QuietLog

HEAD_SECONDS = 10.0
LINGER_SECONDS = 2.0
STALLED_SECONDS = 30.0
SLOW_UPLOAD = 1000
"""Bytes a second, below which an upload gives way to a new connection."""
SPARE_FILES = 16
"""File descriptors that are kept for photos behind links and for files."""
FEWEST = 4
_SLICE = 2**12
"""Bytes of a chunked body that are parsed before others have their turn."""
_ACCEPTED_AT_ONCE = 8
_SWEEP_SECONDS = 0.25


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of one worker's connections.

    Attributes:
        most: connections at once; fewer where the process may not open as many files.
        spare: file descriptors that are kept for what photos at work take, each a decoder's or a model server's.
    """

    most: int
    spare: int = 0

    def number(self) -> int:
        """Return how many connections this process can hold, after its files and some spare ones."""
        try:
            import resource  # noqa: PLC0415  not on Windows

            files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            if files == resource.RLIM_INFINITY:
                return self.most
            is_open = len(list(Path("/proc/self/fd").iterdir()))
            return max(FEWEST, min(self.most, files - is_open - SPARE_FILES - min(self.spare, files // 4)))
        except (ImportError, OSError):
            return self.most


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration, with limits for connections."""

    def __init__(self, app: Any, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(app, http=BoundedProtocol, ws="none", **options)
        self.limits = limits

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """Return what makes the event loop of a worker."""
        return functools.partial(BoundedLoop, self.limits)


class BoundedLoop(asyncio.SelectorEventLoop):
    """An event loop whose servers accept connections only while there is room for them."""

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__()
        self.connections = Connections(limits)

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """Listen on `sock`, as uvicorn asks for it."""
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).addFilter(QuietLog())
        self.connections.start(self)
        return Acceptor(self, options["sock"], protocol_factory)


class Acceptor:
    """Accepts a socket's connections, a few at a time; stands for an `asyncio.Server`, of which uvicorn uses this much."""

    def __init__(self, loop: BoundedLoop, listening: socket.socket, protocol_factory: Any) -> None:
        self._loop, self._listening, self._factory = loop, listening, protocol_factory
        self._connections = loop.connections
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_open = True
        listening.setblocking(False)
        self._connections.when_room = self._resume
        self._resume()

    def close(self) -> None:
        """Accept no more."""
        self._is_open = False
        self._loop.remove_reader(self._listening)

    async def wait_closed(self) -> None:
        """Return at once; connections are waited for elsewhere."""

    def _resume(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._listening, self.accept)

    def accept(self) -> None:
        """Accept what waits, up to a few connections; the loop calls it while any do."""
        for _ in range(_ACCEPTED_AT_ONCE):
            if not self._connections.make_room(len(self._tasks)):
                self._loop.remove_reader(self._listening)  # until one is closed
                return
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no file descriptor is left
                self._loop.remove_reader(self._listening)
                self._loop.call_later(_SWEEP_SECONDS, self._resume)
                return
            connection.setblocking(False)
            # An answer is written in two parts; the second would wait for the client's delayed acknowledgement of the first, 40 ms.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._factory, connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


class Connections:
    """The open connections of a worker, the oldest first."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits, self._most = limits, limits.most
        self._open: dict[BoundedProtocol, None] = {}
        self.when_room: Callable[[], None] = lambda: None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what exceeds its time, from now on."""
        self._most = self._limits.number()
        self._sweep(loop)

    def add(self, connection: "BoundedProtocol") -> None:
        """Take a new connection in."""
        self._open[connection] = None

    def remove(self, connection: "BoundedProtocol") -> None:
        """Forget a connection that was closed."""
        if self._open.pop(connection, self) is None:
            connection.loop.call_soon(self.when_room)

    def make_room(self, expected: int) -> bool:
        """Tell whether another connection may come beside those and the `expected` ones; if not, one may be told to go."""
        if len(self._open) + expected < self._most:
            return True
        now = time.monotonic()
        for connection in self._open:
            connection.note(now)
        idle = [c for c in self._open if c.phase in ("head", "linger", "closing")]
        slow = [c for c in self._open if c.is_slow(now)]
        if idle or slow:
            min(idle or slow, key=lambda c: c.since).abort()
        return False

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        allowed = {
            "head": HEAD_SECONDS,
            "linger": LINGER_SECONDS,
            "closing": STALLED_SECONDS,
            "stalled": STALLED_SECONDS,
        }
        for connection in list(self._open):
            connection.note(now)
            if now - connection.since > allowed.get(connection.phase, float("inf")):
                connection.give_up()
        self.when_room()  # an upload may have become slow
        loop.call_later(_SWEEP_SECONDS, self._sweep, loop)


class BoundedProtocol(H11Protocol):
    """One connection, which knows since when it has been in its phase: head, body, answer, stalled, linger or closing."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn = _Connection(h11.SERVER, self.conn._max_incomplete_event_size)
        self.phase, self.since = "head", time.monotonic()
        self._key: tuple[object, ...] = ()
        self._received, self._rest, self._takes = 0, bytearray(), 0
        self._waits = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        if isinstance(self.loop, BoundedLoop):
            self.loop.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._rest.clear()
        super().connection_lost(exc)
        if isinstance(self.loop, BoundedLoop):
            self.loop.connections.remove(self)

    def note(self, now: float) -> None:
        """Note the present phase, and since when it has lasted."""
        answered = self.cycle is not None and self.cycle.response_complete
        if self.transport.is_closing():
            phase = "closing"
        elif self.flow.write_paused:
            phase = "stalled"
        elif self.conn.their_state is h11.IDLE:
            phase = "head"
        elif self.conn.their_state is h11.SEND_BODY:
            phase = "linger" if answered else "body"
        else:
            phase = "answer"
        key = (phase, self.cycle, self._takes)
        if key != self._key:
            self._key, self.phase, self.since, self._received = key, phase, now, 0

    def is_slow(self, now: float) -> bool:
        """Tell whether a body is on its way, and slower than others should wait for."""
        age = now - self.since
        return self.phase == "body" and age > LINGER_SECONDS and self._received < SLOW_UPLOAD * age

    def give_up(self) -> None:
        """Close a connection whose time is over; a client that has begun a request is told."""
        if self.phase == "head" and self.conn.trailing_data[0] and self.conn.our_state is h11.IDLE:
            body = b"The request's headers did not arrive in time."
            head = f"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {len(body)}"
            self.transport.write(head.encode() + b"\r\n\r\n" + body)
            self.transport.close()
        elif self.phase in ("head", "linger"):
            self.transport.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once, so that another may have the place."""
        self.phase = "gone"
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what came; of a chunked body a slice at a time, between which others have their turn."""
        self._received += len(data)
        self._rest += data
        if len(self._rest) == len(data):  # else the rest is being parsed already
            self._parse_slice()

    def resume_writing(self) -> None:
        """Resume writing an answer once its client has read part of it."""
        self._takes += 1
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, unless an answer is on its way already; what the application answers goes nowhere."""
        if self.cycle is not None and not self.cycle.response_complete:  # the head was HTTP, its body is not
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def _parse_slice(self) -> None:
        if not self._rest:
            return
        is_chunked = self.headers is not None and any(
            name == b"transfer-encoding" for name, _ in self.headers
        )
        size = _SLICE if is_chunked or self.conn.their_state is h11.IDLE else len(self._rest)
        data = bytes(self._rest[:size])
        if len(self._rest) > size and not self.flow.read_paused:
            self.flow.pause_reading()
            self._waits = True
        super().data_received(data)
        del self._rest[:size]
        if self._rest:
            self.loop.call_soon(self._parse_slice)
        elif self._waits and not self.transport.is_closing():
            self._waits = False
            self.flow.resume_reading()


class _Connection(h11.Connection):
    """Refuses bodies in chunks of a few bytes, each of which costs as much to parse as a large one."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks, self._bytes = self._chunks + 1, self._bytes + len(event.data)
            if self._chunks > 1000 + self._bytes // 32:
                raise h11.RemoteProtocolError("the body comes in chunks that are too small")
        return event
