"""`python -m image_classification_trash` is the command `trash-classifier`; both begin here."""

import gc
import os
import signal
import sys

TYPE_CHECKING = False  # nothing is imported before Ctrl-C is handled that is not needed for it
if TYPE_CHECKING:
    from types import FrameType

STOPPED = 130
"""Exit status of a command that was stopped by Ctrl-C."""

CUT_OFF = ("<frozen importlib", f"{os.sep}pydantic{os.sep}")
"""Parts of the names of files in whose code KeyboardInterrupt does harm: it leaves a half-imported module behind, and pydantic's
compiled core mistakes it for a failed validation and continues."""

SPINS = "5000"
"""Rounds for which a thread of GNU's OpenMP, which PyTorch brings along, spins before it sleeps. The default of 300,000 burns the
time that other work on the same cores needs. With 5,000, embedding a photo takes as long as with the default on an idle machine and
1.3 times that computing beside eight busy processes, where the default takes 7 times; measured by scripts/bench_waiting.py."""


def stop(number: int, frame: "FrameType | None") -> None:
    """End the process at once in code that must not be interrupted and leaves nothing to clean up; elsewhere, interrupt it."""
    while frame is not None:
        if any(part in frame.f_code.co_filename for part in CUT_OFF):
            os.write(2, b"stopped\n")
            os._exit(STOPPED)
        frame = frame.f_back
    raise KeyboardInterrupt


def main() -> None:
    """Run the command and exit with its status; Ctrl-C ends it with a word instead of a traceback at any moment."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a job in the background ignores it
        signal.signal(signal.SIGINT, stop)
    if "OMP_WAIT_POLICY" not in os.environ:  # the user decides; read once, when PyTorch is imported
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else all packages are searched for some
    gc.disable()  # until the settings are made: a seventh of the start is looking for garbage that is not there
    try:
        from image_classification_trash.cli import run  # noqa: PLC0415  after the signal is handled
        from image_classification_trash.show import watch_output  # noqa: PLC0415

        watch_output()
        try:
            status = run(sys.argv[1:])
        finally:
            sys.stdout.flush()  # help too: the interpreter's own attempt would end in a traceback
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        status = STOPPED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do is to leave
    sys.exit(status)


if __name__ == "__main__":
    main()
