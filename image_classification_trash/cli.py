"""The command `trash-classifier`: parse arguments, call one function, print its result.

Results go to standard output, logs and progress bars to standard error. Exit status: 0 success; 1 an error that the user
can fix; 2 a wrong flag or setting; 3 finished, but some photos could not be read; 4 the monitored stream drifted; 130 stopped
by Ctrl-C; 141 the reader of the output closed it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from image_classification_trash.config.photos_alone import PhotosAlone, photos_alone
from image_classification_trash.config.verbs import VERBS, Parser, settings_of
from image_classification_trash.errors import SettingsError
from image_classification_trash.show import WRONG_USE, Result, carry_out
from image_classification_trash.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from image_classification_trash.config.base import DataSet, StageSettings, TrainedModel
    from image_classification_trash.config.data import (
        AuditSettings,
        DataSettings,
        ExploreSettings,
        FeatureSettings,
        ShardsSettings,
    )
    from image_classification_trash.config.models import (
        AdaptSettings,
        BenchmarkSettings,
        EvaluateSettings,
        ExportSettings,
        ModelsSettings,
        MonitorSettings,
        PredictSettings,
    )
    from image_classification_trash.config.serving import ServeSettings
    from image_classification_trash.config.training import TrainCommandSettings, TuneSettings


def run_data(settings: DataSettings) -> Result:
    """Prepare a data set."""
    from image_classification_trash.distributed.prepare_data import prepare_data

    return prepare_data(settings)


def run_audit(settings: AuditSettings) -> Result:
    """Find issues in a data set and write a page that shows them."""
    from image_classification_trash.visualization.audit_page import audit_with_page

    return audit_with_page(settings)


def run_explore(settings: ExploreSettings) -> Result:
    """Plot a data set."""
    from image_classification_trash.visualization.visualize import explore

    return explore(settings)


def run_features(settings: FeatureSettings) -> Result:
    """Compute the caches of pixels and embeddings."""
    from image_classification_trash.distributed.mapping import chosen_mapper
    from image_classification_trash.features.build_features import build_features

    with chosen_mapper(settings) as mapper:
        return build_features(settings, mapper)


def run_train(settings: TrainCommandSettings) -> Result:
    """Train a model on a prepared data set, or prepare photos, train on them and evaluate the model."""
    from image_classification_trash.models.own_photos import data_set_or_photos, training_settings

    until = None if settings.seconds is None else time.perf_counter() + settings.seconds
    data = data_set_or_photos(settings)
    if isinstance(data, str):
        from image_classification_trash.models.train_model import Trained, train

        return Trained(train(training_settings(settings, data), until))
    from image_classification_trash.visualization.train_on_photos import train_on_photos

    return train_on_photos(settings, data, until)


def run_tune(settings: TuneSettings) -> Result:
    """Search for good training settings."""
    from image_classification_trash.models.tune_model import tune

    return tune(settings)


def run_evaluate(settings: EvaluateSettings) -> Result:
    """Evaluate a model and plot the results."""
    from image_classification_trash.visualization.evaluation_report import evaluate_with_report

    return evaluate_with_report(settings)


def run_models(settings: ModelsSettings) -> Result:
    """List, compare and promote models."""
    if settings.action == "compare":
        from image_classification_trash.visualization.comparison_page import compare_with_page

        return compare_with_page(settings)
    from image_classification_trash.models.promote_model import manage_models

    return manage_models(settings)


def run_export(settings: ExportSettings) -> Result:
    """Export a model and verify the exported files."""
    from image_classification_trash.models.export_model import export

    return export(settings)


def run_adapt(settings: AdaptSettings) -> Result:
    """Adapt a model to a few labelled photos."""
    from image_classification_trash.models.adapt_model import adapt

    return adapt(settings)


def run_benchmark(settings: BenchmarkSettings) -> Result:
    """Time a model's files on all engines."""
    from image_classification_trash.visualization.benchmark_plot import benchmark_with_plot

    return benchmark_with_plot(settings)


def run_predict(settings: PredictSettings | PhotosAlone) -> Result:
    """Classify photos, or shards of them."""
    if isinstance(settings, PhotosAlone):
        from image_classification_trash.models.predict_model import predict

        return predict(settings)
    if settings.shards is not None:
        from image_classification_trash.distributed.predict_shards import predict_shards

        return predict_shards(settings)
    from image_classification_trash.models.predict_model import classify

    return classify(settings)


def run_shards(settings: ShardsSettings) -> Result:
    """List photos as shards."""
    from image_classification_trash.distributed.shards import list_as_shards

    return list_as_shards(settings)


def run_monitor(settings: MonitorSettings) -> Result:
    """Compare a stream of photos with the training data."""
    from image_classification_trash.models.monitor_model import store_and_monitor

    return store_and_monitor(settings)


def run_serve(settings: ServeSettings) -> Result:
    """Prepare the HTTP server that answers requests."""
    from image_classification_trash.serving.http.server import prepare

    return prepare(settings)


def data_set_is_there(settings: DataSet) -> None:
    """Raise a DatasetError unless the data set is prepared and undamaged."""
    from image_classification_trash.data.manifest import read_manifest

    read_manifest(settings.processed_dir / settings.name)


def training_data_is_there(settings: TrainCommandSettings) -> None:
    """Raise a DatasetError unless the data set is prepared and undamaged, or the photos and their name can be used."""
    from image_classification_trash.data.manifest import read_manifest
    from image_classification_trash.models.own_photos import data_set_or_photos

    data = data_set_or_photos(settings)
    if isinstance(data, str):
        read_manifest(settings.processed_dir / data)


def bundle_is_there(settings: TrainedModel) -> None:
    """Raise a BundleError unless the bundle exists and is undamaged."""
    _check_bundle(settings.bundle, settings.models_dir)


def model_is_there(settings: TrainedModel) -> None:
    """Raise a BundleError unless the model, which may be an exported file, exists and is undamaged."""
    from image_classification_trash.inference.model_store import chosen_bundle
    from image_classification_trash.inference.runtimes import read_model

    read_model(chosen_bundle(settings.bundle, settings.models_dir))


def named_model_is_there(settings: PredictSettings) -> None:
    """Raise a BundleError unless the model that the settings name exists; they need not name one."""
    from image_classification_trash.inference.model_store import chosen_model

    if settings.model is not None:
        chosen_model(settings.model, settings.models_dir)


def monitored_model_is_there(settings: MonitorSettings) -> None:
    """Raise a BundleError unless the monitored model exists and is undamaged."""
    _check_bundle(settings.model, settings.models_dir)


def _check_bundle(reference: Path | None, models_dir: Path) -> None:
    from image_classification_trash.inference.bundle import read_bundle
    from image_classification_trash.inference.model_store import chosen_bundle

    read_bundle(chosen_bundle(reference, models_dir))


class Command(NamedTuple):
    """The function that runs a verb, and a quick check before it, made before heavy imports."""

    run: Callable[[Any], Result]
    check: Callable[[Any], None] = lambda settings: None


EXAMPLES = """  trash-classifier predict photo.jpg  classify a photo with the shipped model
  trash-classifier train ~/photos     train on folders of photos, one a class
  trash-classifier train --help       see the settings of a command"""
VOLUME = {"-q", "--quiet", "-v", "--verbose"}
"""Flags of every command that may stand before its name too."""
COMMANDS = {
    "data": Command(run_data),
    "audit": Command(run_audit, data_set_is_there),
    "explore": Command(run_explore, data_set_is_there),
    "features": Command(run_features, data_set_is_there),
    "train": Command(run_train, training_data_is_there),
    "tune": Command(run_tune, data_set_is_there),
    "evaluate": Command(run_evaluate, model_is_there),
    "models": Command(run_models),
    "export": Command(run_export, bundle_is_there),
    "adapt": Command(run_adapt),
    "benchmark": Command(run_benchmark, model_is_there),
    "predict": Command(run_predict, named_model_is_there),
    "shards": Command(run_shards),
    "monitor": Command(run_monitor, monitored_model_is_there),
    "serve": Command(run_serve),
}


def load(verb: str, arguments: Sequence[str]) -> StageSettings | PhotosAlone:
    """Load a verb's settings, and check that the data set or model that they name exists."""
    if verb == "predict" and (plain := photos_alone(arguments)):
        return plain
    from image_classification_trash.config.loader import load_settings

    settings = load_settings(settings_of(verb), arguments)
    COMMANDS[verb].check(settings)
    return settings


def run(arguments: Sequence[str]) -> int:
    """Run a command line; return the exit status."""
    leading = list(takewhile(VOLUME.__contains__, arguments))
    arguments = in_one_word(arguments[len(leading) :])
    if not arguments or arguments[0] not in VERBS:
        return carry_out("", lambda: answer_without_verb(arguments), lambda nothing: nothing)
    verb, rest = arguments[0], [*leading, *arguments[1:]]
    return carry_out(verb, lambda: load(verb, rest), COMMANDS[verb].run)


class Print(argparse.Action):
    """Print a text that a function makes, which is called for this alone, and exit."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        flag: str | None = None,
    ) -> None:
        """Print what `const` returns for the flag's value, if it takes one."""
        sys.stdout.write(f"{self.const(values) if values else self.const()}\n")
        parser.exit()


def versions() -> str:
    """Return the versions of the package, its model and the engines."""
    from image_classification_trash.config.versions import describe_versions

    return describe_versions(__version__)


def schema() -> str:
    """Return the JSON schema of recipes."""
    import json

    from image_classification_trash.config.recipes import recipe_schema

    return json.dumps(recipe_schema(), indent=2)


def completion(shell: str) -> str:
    """Return the script that completes command lines in a shell."""
    from image_classification_trash.config.completion import SCRIPTS

    return SCRIPTS[shell]()


def answer_without_verb(arguments: Sequence[str]) -> NoReturn:
    """Print the help or what else is asked for without a command, and exit.

    Raises:
        SettingsError: there is no such command (suggests the nearest) or flag.
    """
    import textwrap
    from difflib import get_close_matches
    from shutil import get_terminal_size

    width = get_terminal_size().columns - 2
    verbs = "\n".join(
        textwrap.fill(
            verb.help,
            width,
            initial_indent=f"  {name:<11}",
            subsequent_indent=13 * " ",
            break_on_hyphens=False,
        )
        for name, verb in VERBS.items()
    )
    parser = Parser(
        prog="trash-classifier",
        usage="trash-classifier COMMAND [--help] ...",
        description=f"Sort waste by photo.\n\n{EXAMPLES}\n\ncommands:\n{verbs}",
        epilog="Each command says less with -q and more with -v.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    for flag, text, about in (
        ("--version", versions, "show the versions of package, model and engines"),
        ("--schema", schema, "show the JSON schema of recipes, for editors"),
    ):
        add(flag, action=Print, nargs=0, const=text, help=about)
    shells = ("bash", "zsh", "fish")
    about = "show a script that completes commands"
    add("--completion", action=Print, choices=shells, const=completion, help=about)
    add("command", nargs="?", help=argparse.SUPPRESS)
    command = parser.parse_args(arguments[: 2 if "--completion" in arguments[:1] else 1]).command
    if command is None:
        parser.print_help(sys.stderr)
        raise SystemExit(WRONG_USE)
    near = get_close_matches(command, VERBS, n=1)
    hint = (
        f"Did you mean {near[0]!r}?"
        if near
        else f"Commands: {', '.join(VERBS)}.\n  See: {parser.prog} --help"
    )
    raise SettingsError(f"There is no command {command!r}.", hint)


def in_one_word(arguments: Sequence[str]) -> Sequence[str]:
    """Rewrite `data audit NAME` as `audit NAME`; `data` takes one name, so this is unambiguous."""
    if list(arguments[:2]) == ["data", "audit"] and arguments[2:3] and not arguments[2].startswith("-"):
        return arguments[1:]
    return arguments
