"""The W&B sweep file, read the way W&B's agent reads it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from image_classification_trash.config.loader import load_settings
from image_classification_trash.config.training import TrainSettings

SWEEP: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "configs/sweep.yaml").read_text())
PARAMETERS: dict[str, dict[str, Any]] = SWEEP["parameters"]


def edges(space: dict[str, Any]) -> list[Any]:
    return space["values"] if "values" in space else [space["min"], space["max"]]


def test_each_parameter_is_a_setting_of_training() -> None:
    assert {name.replace("-", "_") for name in PARAMETERS} <= set(TrainSettings.model_fields)


@pytest.mark.parametrize("edge", [0, -1])
def test_training_accepts_the_command_line_that_the_agent_builds(edge: int) -> None:
    agent = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    chosen = {name: edges(space)[edge] for name, space in PARAMETERS.items()}
    built = agent.create_sweep_command_args({"args": {name: {"value": v} for name, v in chosen.items()}})
    start = SWEEP["command"].index("train") + 1
    settings = load_settings(TrainSettings, [*SWEEP["command"][start:-1], *built["args"]])
    assert SWEEP["command"][-1] == "${args}"
    assert {name: getattr(settings, name.replace("-", "_")) for name in chosen} == chosen
    assert (settings.name, settings.tracker) == ("trashnet", "wandb")
