"""The commands: the class of their settings and a line of help, as plain data that imports no settings; and their parser."""

import argparse
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from image_classification_trash.errors import SettingsError

if TYPE_CHECKING:
    from image_classification_trash.config.base import StageSettings


class Parser(argparse.ArgumentParser):
    """Parses a command line; a wrong one is a SettingsError, as any other wrong setting is."""

    def error(self, message: str) -> NoReturn:
        """Raise a SettingsError."""
        raise SettingsError(f"{message}.", f"See: {self.prog} --help")


class Verb(NamedTuple):
    """A command: the module and class of its settings, and the first line of that class's docstring."""

    module: str
    settings: str
    help: str


VERBS = {
    "data": Verb(
        "data",
        "DataSettings",
        "Prepare a data set: fetch, check every photo, find near-duplicates, split, write the manifest.",
    ),
    "audit": Verb(
        "data",
        "AuditSettings",
        "Look for errors in a prepared data set: contradictions, duplicates, doubtful labels, poor and odd photos.",
    ),
    "explore": Verb(
        "data",
        "ExploreSettings",
        "Draw a prepared data set: class balance, contact sheets, embedding map, near-duplicates, augmentation.",
    ),
    "features": Verb(
        "data",
        "FeatureSettings",
        "Decode all photos once into pixel caches, and compute their embeddings.",
    ),
    "train": Verb(
        "training",
        "TrainCommandSettings",
        "Train a classifier: a head on embeddings, then the network; a folder of photos is prepared and the model evaluated.",
    ),
    "tune": Verb(
        "training",
        "TuneSettings",
        "Search for good settings of a training, judged on the validation split; writes a recipe for train.",
    ),
    "evaluate": Verb(
        "models",
        "EvaluateSettings",
        "Evaluate a model on the test split of its data set, or on any labelled folder; writes figures and a report.",
    ),
    "models": Verb(
        "models",
        "ModelsSettings",
        "List, compare and promote models: versions that no training touches, and aliases such as `production`.",
    ),
    "export": Verb(
        "models",
        "ExportSettings",
        "Export a model to ONNX, TFLite, SavedModel or OpenVINO, each file verified against the trained model.",
    ),
    "adapt": Verb(
        "models",
        "AdaptSettings",
        "Adapt a model to a camera and its place from a few photos, in seconds and without torch.",
    ),
    "benchmark": Verb(
        "models",
        "BenchmarkSettings",
        "Time a model in all its files and engines, side by side.",
    ),
    "predict": Verb(
        "models",
        "PredictSettings",
        "Classify photos: files, folders, globs, URLs, or `-` for a list on standard input.",
    ),
    "shards": Verb(
        "data",
        "ShardsSettings",
        "List the photos of a folder, a list or a bucket as shards, which predict --shards answers.",
    ),
    "monitor": Verb(
        "models",
        "MonitorSettings",
        "Compare photos, or a gateway's statistics, with what a model learned from; exit status 4 where they differ.",
    ),
    "serve": Verb(
        "serving",
        "ServeSettings",
        "Answer requests: a REST gateway with a web page, for one model or one exported file.",
    ),
}


def settings_of(verb: str) -> type["StageSettings"]:
    """Import the settings of a command, without those of other modules."""
    module = import_module(f"image_classification_trash.config.{VERBS[verb].module}")
    settings: type[StageSettings] = getattr(module, VERBS[verb].settings)
    return settings
