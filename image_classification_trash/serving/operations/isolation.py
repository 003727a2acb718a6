"""Decodes photos in processes of their own, each of which can be ended: the gateway's side of `decoder_process.py`.

    decoders = Decoders(cpu_seconds=5)
    pixels = decoders.decode(data, (224, 288), "stretch", memory=2**28, deadline=time.monotonic() + 10)
    decoders.close()

A photo that takes more memory or computing than it may, or crashes its decoder, costs a decoder, and the next photo gets
a new one. The pixels are the same as those of `read_photo`.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from image_classification_trash.errors import PhotoError, PhotoTooLargeError
from image_classification_trash.inference.images import RESIZE_MODES, Pixels, ResizeMode, Size
from image_classification_trash.inference.photo_cost import SHRINK_HINT
from image_classification_trash.serving.http.api_errors import full
from image_classification_trash.serving.operations import decoder_process as protocol
from image_classification_trash.serving.operations.access import KEYS

MODULE = protocol.__name__
MAX_ERROR = 2**16
"""Bytes of an error that a decoder may send."""
_LOST = (OSError, EOFError, ValueError)
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Decoder:
    """A process that decodes one photo at a time, and the socket to it."""

    pid: int
    connection: socket.socket

    def is_open(self) -> bool:
        """Tell whether an idle decoder is still there: it sends nothing unless it is asked."""
        self.connection.settimeout(0)
        try:
            self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def answer(self, job: bytes, data: bytes, size: Size, deadline: float) -> Pixels | PhotoError:
        """Have a photo decoded: uint8 (H, W, 3), or what is wrong with it. The process is not trusted.

        Raises:
            TimeoutError: the deadline has passed.
            OSError, EOFError, ValueError: the process has ended, or says what it may not say.
        """
        self._wait_at_most_until(deadline)
        self.connection.sendall(job)
        self.connection.sendall(data)
        self._wait_at_most_until(deadline)
        kind, length = protocol.ANSWER.unpack(protocol.receive(self.connection, protocol.ANSWER.size))
        if length != (size[0] * size[1] * 3 if kind == protocol.PIXELS else min(length, MAX_ERROR)):
            raise EOFError
        self._wait_at_most_until(deadline)
        said = protocol.receive(self.connection, length)
        if kind == protocol.PIXELS:
            return np.frombuffer(said, np.uint8).reshape(*size, 3)
        found, hint = map(str, json.loads(said))
        return (PhotoTooLargeError if kind == protocol.TOO_LARGE else PhotoError)(found, hint)

    def _wait_at_most_until(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)


class Decoders:
    """Processes that decode photos, as many as are in use at once; may be used from several threads.

    Args:
        cpu_seconds: computing that a photo may take.
    """

    def __init__(self, cpu_seconds: float) -> None:
        """Start the process that forks them, without waiting until it has started."""
        self._cpu_seconds = cpu_seconds
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._start()

    def decode(
        self,
        data: bytes,
        size: Size,
        resize_mode: ResizeMode,
        memory: int,
        deadline: float,
        keep: bool = True,
    ) -> Pixels:
        """Decode a photo to uint8 (H, W, 3).

        Args:
            data: the encoded photo.
            size: height and width of the result.
            resize_mode: how a frame of another shape is brought to `size`.
            memory: bytes that decoding may hold at once.
            deadline: on the monotonic clock.
            keep: whether the process may decode further photos, and so keep what it has not returned to the system.

        Raises:
            PhotoError: it cannot be decoded, or crashed its decoder.
            PhotoTooLargeError: it takes more memory or computing than it may.
            TimeoutError: the deadline has passed; the decoder has been ended.
            RefusalError: 503, the decoder was lost.
        """
        job = protocol.JOB.pack(len(data), *size, RESIZE_MODES.index(resize_mode), memory, self._cpu_seconds)
        decoder = self._take()
        try:
            answer = decoder.answer(job, data, size, deadline)
        except BaseException as error:
            status = self._end(decoder)
            if isinstance(error, _LOST) and not isinstance(error, TimeoutError):
                raise reason_of(status, self._cpu_seconds) from None
            raise
        if keep:
            with self._lock:
                self._idle.append(decoder)
        else:
            self._end(decoder)
        if isinstance(answer, PhotoError):
            raise answer
        return answer

    def warm_up(self) -> None:
        """Wait until a decoder can be used, so that the first photo need not.

        Raises:
            RefusalError: no process can be started.
        """
        decoder = self._take()
        with self._lock:
            self._idle.append(decoder)

    def close(self) -> None:
        """End all of them."""
        self._control.close()  # the process ends, and its decoders with it
        with self._lock:
            for decoder in self._idle:
                decoder.connection.close()
            self._idle.clear()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            line = [sys.executable, "-m", MODULE, str(theirs.fileno())]
            self._process = subprocess.Popen(  # noqa: S603  this program's own module
                line,
                env={**{name: value for name, value in os.environ.items() if name != KEYS}, **_ONE_THREAD},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def _take(self) -> Decoder:
        """Take an idle decoder, or fork one; start the parent of all again if it was lost."""
        while self._idle:
            with suppress(IndexError):  # another thread took it
                decoder = self._idle.pop()
                if decoder.is_open():
                    return decoder
                self._end(decoder)
        with self._lock:
            try:
                return self._fork()
            except (OSError, EOFError) as error:
                if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
                    raise full() from error
                self._control.close()
                self._process.kill()
                self._process.wait()
            try:
                self._start()
                return self._fork()
            except (OSError, EOFError) as error:
                raise full() from error

    def _fork(self) -> Decoder:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [protocol.ORDER.pack(protocol.FORK, 0)], [theirs.fileno()])
            (pid,) = protocol.REPLY.unpack(protocol.receive(self._control, protocol.REPLY.size))
        return Decoder(pid, ours)

    def _end(self, decoder: Decoder) -> int | None:
        """End a decoder; return how it ended, as `os.waitpid` has it, or None if that is not known."""
        decoder.connection.close()
        with self._lock, suppress(OSError, EOFError):
            self._control.sendall(protocol.ORDER.pack(protocol.END, decoder.pid))
            (status,) = protocol.REPLY.unpack(protocol.receive(self._control, protocol.REPLY.size))
            return int(status) if status >= 0 else None
        return None


def reason_of(status: int | None, cpu_seconds: float) -> Exception:
    """Tell why a decoder ended by itself.

    Args:
        status: as `os.waitpid` has it; None if it is not known.
        cpu_seconds: computing that it could take.
    """
    if status is None:
        return full()
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    if number == signal.SIGPROF:
        found = f"photo takes more than {cpu_seconds:g} seconds of computing to decode."
        return PhotoTooLargeError(found, SHRINK_HINT)
    if number == signal.SIGKILL:
        return PhotoTooLargeError("photo takes more memory to decode than there is.", SHRINK_HINT)
    return PhotoError("photo cannot be decoded: its decoder crashed.", "Save it again as JPEG.")
