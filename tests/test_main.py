"""The command decides how PyTorch's threads wait, unless the user did."""

import gc
import os
from collections.abc import Iterator

import pytest

from image_classification_trash import __main__, cli


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Garbage is collected in the tests that follow: the command disables that for its start."""
    yield
    gc.enable()


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, __main__.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_spin_briefly_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: str | None
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "PYDANTIC_DISABLE_PLUGINS"):
        monkeypatch.setenv(name, "")  # so that whatever the command sets is undone
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    seen: list[str | None] = []
    monkeypatch.setattr(cli, "run", lambda arguments: seen.append(os.environ.get("GOMP_SPINCOUNT")) or 0)
    monkeypatch.setattr(__main__.signal, "signal", lambda number, handler: None)
    with pytest.raises(SystemExit):
        __main__.main()
    assert seen == [expected]
