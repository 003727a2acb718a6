"""Networks by name, weights from files, and clear words where they do not fit."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision

from image_classification_trash.errors import TrainingError
from image_classification_trash.networks.backbones import (
    LITE,
    fetch_lite,
    find_architecture,
    has_pretrained_weights,
    read_weights,
)
from image_classification_trash.networks.network import EmbeddingBackbone, TrashNetwork, build_network

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["resnet18", *LITE, "sequential_cnn", "mobilenetv3_small_050"])
def test_photos_in_probabilities_out(name: str) -> None:
    network = build_network(name, 5, pretrained=False).eval()
    with torch.inference_mode():
        probabilities = network(torch.from_numpy(PHOTOS))
    assert probabilities.shape == (3, 5) and torch.allclose(probabilities.sum(1), torch.ones(3))
    assert network.stages() and EmbeddingBackbone(network).embed(PHOTOS).shape == (3, network.width)


def test_temperature_softens() -> None:
    network = build_network("sequential_cnn", 3).eval()
    network.set_linear_head(
        np.eye(3, network.width, dtype=np.float32) * 9, np.arange(3, dtype=np.float32) * 3
    )
    with torch.inference_mode():
        sharp = network(torch.from_numpy(PHOTOS)).max()
        network.temperature.fill_(5.0)
        assert network(torch.from_numpy(PHOTOS)).max() < sharp


@pytest.mark.parametrize("name", LITE)
def test_lite_weights_give_the_published_networks_answers(name: str) -> None:
    network = build_network(name, 6).eval()
    published = timm.create_model(f"tf_{name}", num_classes=0).eval()
    published.load_state_dict(dict(fetch_lite(name)), strict=False)
    x = torch.from_numpy(PHOTOS).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        assert torch.allclose(network.embed(x), published((x - 127) / 128), atol=1e-4)


def test_resnet18_from_a_local_weights_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = torchvision.models.resnet18(weights=None)
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    network = build_network("resnet18", 6, weights=tmp_path / "resnet18.pth")
    assert torch.equal(network.backbone.state_dict()["conv1.weight"], whole.conv1.weight)


def test_resnet18_offline_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", no_network)
    with pytest.raises(TrainingError) as caught:
        build_network("resnet18", 6)
    assert "resnet18" in caught.value.found and "--weights FILE" in caught.value.hint


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(build_network("sequential_cnn", 6).backbone.state_dict(), tmp_path / "w.pth")
    with pytest.raises(TrainingError, match="does not fit resnet18"):
        build_network("resnet18", 6, weights=tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_damaged_and_missing_weights(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match="cannot be read as weights"):
        build_network("resnet18", 6, weights=path)


def test_weights_never_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "harm",))  # type: ignore[return-value]

    torch.save({"x": Evil()}, tmp_path / "w.pth")
    with pytest.raises(TrainingError):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "harm").exists()


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(TrainingError, match="'resnet18'"):
        find_architecture("resnet-18")
    assert not has_pretrained_weights("sequential_cnn")


def test_networks_of_one_input_size_are_refused() -> None:
    with pytest.raises(TrainingError, match="any size"):
        TrashNetwork("vit_tiny_patch16_224", 6)
