"""Two machines as the network sees them: namespaces with a cable between them and nothing else."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Machine:
    """A network namespace: how a command is begun in it, its address and its network card."""

    enter: list[str]
    address: str
    card: str


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines that reach each other alone; the test is skipped where they cannot be made."""
    if not sys.platform.startswith("linux") or shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need Linux, the program ip, and root")
    names = [f"trash-{os.getpid()}-{letter}" for letter in "ab"]
    cards = [f"t{os.getpid()}{letter}" for letter in "ab"]
    addresses = ["10.201.77.1", "10.201.77.2"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cards[0], "netns", names[0], "type", "veth", "peer", cards[1], "netns", names[1])
        for name, card, address in zip(names, cards, addresses, strict=True):
            ip("-n", name, "address", "add", f"{address}/30", "dev", card)
            ip("-n", name, "link", "set", card, "up")
            ip("-n", name, "link", "set", "lo", "up")
        one, other = (
            Machine(["ip", "netns", "exec", name], address, card)
            for name, card, address in zip(names, cards, addresses, strict=True)
        )
        yield one, other
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"network namespaces are not allowed here: {done.stderr.strip()}")
