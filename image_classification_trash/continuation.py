"""Compare an interrupted run with the one that continues it; used by every `--resume` and by a search that is repeated."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that an interrupted run was made with, and what the run that continues it has instead."""

    name: str
    before: object
    now: object

    def __str__(self) -> str:
        return f"{self.name} {in_words(self.before)} -> {in_words(self.now)}"


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[Difference]:
    """Return what differs between two runs, in the order of `now`.

    Names that only one of them has are not compared: an earlier version did not write them, or does not know them.
    """
    return [
        Difference(name, before[name], value)
        for name, value in now.items()
        if name in before and before[name] != value
    ]


def listed(changes: list[Difference]) -> str:
    """Return the differences as one line of text."""
    return "; ".join(map(str, changes))


def in_words(value: object) -> str:
    """Return plain data as text: lists with commas, and `none` for nothing."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
