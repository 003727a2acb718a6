"""What an error tells people to install can be installed while no index has the package."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from image_classification_trash.errors import install_hint


def test_in_a_clone_it_is_the_clone(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    assert install_hint("serve", tmp_path) == f'Install it with: pip install -e "{tmp_path}[serve]"'


@pytest.mark.parametrize("address", ["file:///home/a/trash.whl", None])
def test_elsewhere_it_is_the_file_that_was_installed(
    address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = None if address is None else json.dumps({"url": address})
    found = SimpleNamespace(read_text=lambda name: origin)
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: found)
    hint = install_hint("train,tune", tmp_path)
    assert hint.endswith(
        f'"image-classification-trash[train,tune] @ {address}"' if address else '"FILE.whl[train,tune]"'
    )
