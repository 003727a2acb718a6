"""The batch size follows the memory there is, and is the default wherever that fits."""

from pathlib import Path

import pytest
import torch

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.networks import memory
from image_classification_trash.networks.memory import (
    Memory,
    bytes_of_a_photo,
    device_memory,
    memory_limits,
    with_batch_that_fits,
)

DEFAULT = TrainSettings(name="mine")


def test_the_default_stays_where_it_fits(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = torch.random.get_rng_state()
    chosen = with_batch_that_fits(DEFAULT, Memory(16 * 10**9, "this machine"))
    assert chosen is DEFAULT and chosen.batch_size == 32
    assert "batches of 32 photos, the default: about 3." in capsys.readouterr().err
    assert torch.equal(drawn, torch.random.get_rng_state())


def test_little_memory_halves_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = with_batch_that_fits(DEFAULT, Memory(3 * 10**9, "this container"))
    assert chosen == DEFAULT.model_copy(update={"batch_size": chosen.batch_size}) and chosen.batch_size == 8
    said = capsys.readouterr().err
    assert "batches of 8 photos, as 32 would not fit: about 2.0 GB of the 3.0 GB of this container" in said
    assert with_batch_that_fits(DEFAULT, Memory(10**9, "this container")).batch_size == memory.SMALLEST


def test_larger_photos_and_more_trained_stages_need_more() -> None:
    usual = bytes_of_a_photo(DEFAULT)
    assert usual is not None and 50e6 < usual < 80e6
    larger = bytes_of_a_photo(TrainSettings(input_height=448, input_width=288))
    assert larger == pytest.approx(2 * usual, rel=0.05)
    whole = bytes_of_a_photo(TrainSettings(freeze_stages=0))
    assert whole is not None and whole > 2 * usual


@pytest.mark.parametrize("given", [{"batch_size": 64}, {"epochs": 0}])
def test_what_was_given_stays_unsaid(given: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    settings = TrainSettings.model_validate(given)
    assert with_batch_that_fits(settings, Memory(10**9, "this container")) is settings
    assert capsys.readouterr().err == ""


def test_unknown_memory_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(memory, "device_memory", lambda settings: None)
    assert with_batch_that_fits(DEFAULT) is DEFAULT
    assert "memory is not known here" in capsys.readouterr().err


def test_limits_of_both_kinds_of_control_groups(tmp_path: Path) -> None:
    own, root = tmp_path / "cgroup", tmp_path / "mounted"
    for folder, file, text in (
        ("pod/app", "memory.max", "max\n"),
        ("pod", "memory.max", "4000000000\n"),
        ("memory/old", "memory.limit_in_bytes", "2000000000\n"),
        ("memory", "memory.limit_in_bytes", "9223372036854771712\n"),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / file).write_text(text)
    own.write_text("0::/pod/app\n")
    assert list(memory_limits(own, root)) == [4000000000]
    own.write_text("5:cpu,cpuacct:/old\n4:memory:/old\n")
    assert list(memory_limits(own, root)) == [2000000000, 9223372036854771712]
    assert list(memory_limits(tmp_path / "nowhere", root)) == []


def test_a_limit_below_the_machine_is_the_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = TrainSettings(accelerator="cpu")
    monkeypatch.setattr(memory, "memory_limits", lambda own, root: iter([2**31, 2**62]))
    assert device_memory(cpu) == Memory(2**31, "this container")
    monkeypatch.setattr(memory, "memory_limits", lambda own, root: iter([2**62]))
    machine = device_memory(cpu)
    assert machine is not None and machine.place == "this machine" and machine.total < 2**62
    two = device_memory(cpu.model_copy(update={"devices": 2}))
    assert two is not None and two.total == machine.total // 2
