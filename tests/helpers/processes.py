"""Processes of a running gateway, as /proc lists them."""

import contextlib
import os
import signal
from pathlib import Path

DECODER = "decoder_process"


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for children in Path(f"/proc/{each}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found[1:]


def is_running(pid: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def decoders(pid: int) -> list[int]:
    """The processes below `pid` that decode photos: those whose parent's command is the same as theirs."""
    return [
        child
        for parent in descendants(pid)
        if DECODER in command(parent)
        for child in descendants(parent)
        if DECODER in command(child)
    ]


def workers(pid: int) -> list[int]:
    """The servers below a supervisor."""
    return [
        child
        for child in descendants(pid)
        if "multiprocessing" in command(child) and "spawn_main" in command(child)
    ]


def stop_and_go(pids: list[int], number: signal.Signals) -> None:
    """Send SIGSTOP, which no process can refuse, or SIGCONT."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
