import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from image_classification_trash.data import trashnet
from image_classification_trash.data.trashnet import download_trashnet, official_split
from image_classification_trash.errors import ArchiveError, DownloadError

huggingface_hub = pytest.importorskip("huggingface_hub")


def test_the_authors_split_has_their_sizes_and_all_six_classes() -> None:
    parts = official_split()
    assert Counter(parts.values()) == {"train": 1768, "val": 328, "test": 431}
    assert {name.rstrip("0123456789.jpg") for name in parts} == set(trashnet.LABELS)


def test_without_network_the_offline_ways_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("Cannot reach the hub.\nSecond line")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(DownloadError) as caught:
        download_trashnet()
    assert caught.value.found.endswith("data set garythung/trashnet: Cannot reach the hub.")
    assert "trash-classifier data trashnet --source dataset-resized.zip" in caught.value.hint
    assert "trash-classifier data sample" in caught.value.hint


@pytest.mark.parametrize(
    ("size", "found"), [(5, "has 5 bytes; the known TrashNet zip has 42834870"), (7, "has SHA-256 ")]
)
def test_another_file_from_the_hub_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, found: str
) -> None:
    file = tmp_path / "dataset-resized.zip"
    file.write_bytes(b"x" * size)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(file))
    if size == 7:
        monkeypatch.setattr(trashnet, "HUB_BYTES", 7)
    with pytest.raises(ArchiveError, match=found) as caught:
        download_trashnet()
    assert str(file) in caught.value.found
    assert "--source" in caught.value.hint


def test_the_known_file_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "dataset-resized.zip"
    file.write_bytes(b"x")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(file))
    monkeypatch.setattr(trashnet, "HUB_BYTES", 1)
    monkeypatch.setattr(trashnet, "HUB_SHA256", hashlib.sha256(b"x").hexdigest())
    assert download_trashnet() == file
