"""Decodes photos in processes that can be ended; `isolation.py` starts this one and talks to it.

    python -m image_classification_trash.serving.operations.decoder_process 5    # a socket's descriptor

It imports Pillow, NumPy and the code that decodes, has one thread, and forks a decoder whenever it is asked to, which
takes milliseconds and shares its memory. It ends decoders too: as their parent, it alone knows that a process id is
still theirs. It ends once the gateway does, whose end of the socket then closes, and so do all decoders.
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import warnings
from contextlib import suppress
from pathlib import Path

from image_classification_trash.errors import PhotoError, PhotoTooLargeError
from image_classification_trash.inference.images import RESIZE_MODES, read_photo
from image_classification_trash.inference.photo_cost import SERVING, SHRINK_HINT

ORDER = struct.Struct("!cI")
"""To this process: what to do, and the process id of the decoder to end. A socket comes with `FORK`."""
FORK, END = b"f", b"e"
UNKNOWN = -1
"""How a process ended that is not a child of this one."""
REPLY = struct.Struct("!i")
"""From this process: a decoder's process id, or how it ended, as `os.waitpid` has it."""
JOB = struct.Struct("!QIIBQd")
"""To a decoder: bytes of the photo, height, width, resize mode, bytes and seconds of computing that it may take."""
ANSWER = struct.Struct("!cI")
"""From a decoder: what follows, and its length."""
PIXELS, TOO_LARGE, NOT_A_PHOTO = b"p", b"l", b"n"
_PLUGINS = ("Avif", "Bmp", "Gif", "Jpeg", "Mpo", "Png", "WebP")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main() -> None:
    """Fork and end decoders until the gateway's end of the socket is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a terminal signals the whole group
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    for name in _PLUGINS:
        importlib.import_module(f"PIL.{name}ImagePlugin")
    gc.freeze()  # a collection in a decoder would copy what it shares
    control = socket.socket(fileno=int(sys.argv[1]))
    decoders: set[int] = set()
    while True:
        order, sockets, _, _ = socket.recv_fds(control, ORDER.size, 1)
        if len(order) < ORDER.size:
            break
        what, pid = ORDER.unpack(order)
        if what == FORK:
            reply = os.fork()
            if reply == 0:
                control.close()
                decode_until_closed(socket.socket(fileno=sockets[0]))
            decoders.add(reply)
            os.close(sockets[0])
        else:
            reply = end(pid) if pid in decoders else UNKNOWN
            decoders.discard(pid)
        control.sendall(REPLY.pack(reply))
    for pid in decoders:
        end(pid)
    os._exit(0)  # at once: the gateway waits


def end(pid: int) -> int:
    """Kill a child, whether or not it still runs, and return how it ended."""
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def decode_until_closed(connection: socket.socket) -> None:
    """Answer one job after the other, then end this process."""
    try:
        prepare()
        while True:
            length, height, width, mode, memory, seconds = JOB.unpack(receive(connection, JOB.size))
            data = receive(connection, length)
            limit_memory(memory)
            signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends the process, even inside a decoder
            kind, answer = decoded(data, (height, width), mode)
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.sendall(ANSWER.pack(kind, len(answer)))
            connection.sendall(answer)
    except (OSError, EOFError):  # the gateway is gone, or has given up
        os._exit(0)
    finally:
        os._exit(1)


def prepare() -> None:
    """End when the parent ends; be the first that the system ends where memory is short; write nothing."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("900")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    # A decoder has one core's share; the pixels are the same.
    setattr(importlib.import_module("PIL.AvifImagePlugin"), "DEFAULT_MAX_THREADS", 1)  # noqa: B010


def limit_memory(more: int) -> None:
    """Let this process hold `more` bytes of data than it holds now; what exceeds that fails as `MemoryError`."""
    with suppress(OSError):  # systems without /proc
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + more, hard))


def decoded(data: bytes, size: tuple[int, int], mode: int) -> tuple[bytes, bytes]:
    """Decode a photo: its pixels, uint8 (H, W, 3), or the two sentences of an error, in JSON."""
    try:
        return PIXELS, read_photo(data, size, RESIZE_MODES[mode], SERVING).tobytes()
    except PhotoTooLargeError as error:
        kind, sentences = TOO_LARGE, [error.found, error.hint]
    except PhotoError as error:
        kind, sentences = NOT_A_PHOTO, [error.found, error.hint]
        cause = error.__cause__
        if isinstance(cause, MemoryError) or "memory" in str(cause):
            kind, sentences = (
                TOO_LARGE,
                ["photo takes more memory to decode than its header says.", SHRINK_HINT],
            )
    return kind, json.dumps(sentences).encode()


def receive(connection: socket.socket, length: int) -> bytes:
    """Read exactly `length` bytes.

    Raises:
        EOFError: the other end was closed first.
        OSError: the connection failed, or took longer than its time-out.
    """
    first = connection.recv(length, socket.MSG_WAITALL) if length else b""
    if len(first) == length:
        return first
    if not first:
        raise EOFError
    data = bytearray(first).ljust(length, b"\0")
    view, filled = memoryview(data), len(first)
    while filled < length:
        count = connection.recv_into(view[filled:])
        if not count:
            raise EOFError
        filled += count
    return bytes(data)


if __name__ == "__main__":
    main()
