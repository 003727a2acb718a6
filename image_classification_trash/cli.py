"""The command `trash-classifier`: parses, calls one function, prints.

Results go to standard output, logs and progress bars to standard error. Exit status: 0 good; 1 an error that the
user can mend; 2 a wrong flag or setting; 3 finished, but some photos could not be read.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from image_classification_trash import __version__
from image_classification_trash.config import (
    DataSettings,
    EvaluateSettings,
    ExploreSettings,
    ExportSettings,
    FeatureSettings,
    PredictSettings,
    StageSettings,
    TrainSettings,
    load_settings,
)
from image_classification_trash.errors import SettingsError, TrashClassifierError

GOOD, FAILED, WRONG_USE, SOME_UNREADABLE = 0, 1, 2, 3


def run_data(settings: DataSettings) -> int:
    """Prepare a data set."""
    from image_classification_trash.data.make_dataset import make_dataset

    prepared = make_dataset(settings, _near_duplicate_embedder(settings))
    manifest = prepared.manifest
    state = "is already prepared in" if prepared.done_before else "is prepared in"
    print(f"{manifest.name} {state} {prepared.folder} (split {manifest.about['split']['method']})")
    _print_table(
        ["class", *manifest.counts()],
        [[label, *(str(part[label]) for part in manifest.counts().values())] for label in manifest.labels],
    )
    problems = manifest.about["problems"]
    if problems:
        kinds = ", ".join(f"{count} {kind}" for kind, count in problems.items())
        print(f"left out: {kinds}; see {prepared.folder / 'problems.csv'}")
    overlap = manifest.about["near_duplicates"]["overlap"]["test"]
    share = f"{overlap['with_near_duplicate_in_train']} of {overlap['photos']}"
    print(f"test photos with a near-duplicate in train: {share} ({overlap['share']:.1%})")
    return GOOD


def run_explore(settings: ExploreSettings) -> int:
    """Draw a data set."""
    from image_classification_trash.visualization.visualize import explore

    print(explore(settings))
    return GOOD


def run_features(settings: FeatureSettings) -> int:
    """Fill the caches."""
    from image_classification_trash.models.features_of_data import build_features

    for line in build_features(settings):
        print(line)
    return GOOD


def run_train(settings: TrainSettings) -> int:
    """Train a bundle."""
    from image_classification_trash.models.train_model import train

    bundle = train(settings)
    if bundle is not None:
        validation = bundle.config.training["validation"]
        print(f"{bundle.path}: validation accuracy {validation['accuracy']:.1%}, n = {validation['n']}")
        print(f"Measure it on test photos: trash-classifier evaluate {bundle.path}")
    return GOOD


def run_evaluate(settings: EvaluateSettings) -> int:
    """Measure a bundle and draw what was measured."""
    from image_classification_trash.models.evaluate_model import evaluate, summary
    from image_classification_trash.visualization.visualize import report_evaluation

    evaluation = evaluate(settings)
    report = report_evaluation(evaluation, settings)
    if settings.json_output:
        print(json.dumps(evaluation.metrics, indent=2, ensure_ascii=False))
    else:
        _print_table(["measure", "value (95% interval)"], summary(evaluation))
        print(f"report: {report}")
    return SOME_UNREADABLE if evaluation.unreadable else GOOD


def run_export(settings: ExportSettings) -> int:
    """Export and verify."""
    from image_classification_trash.models.export_model import export, summary

    exported = export(settings)
    if settings.json_output:
        print(json.dumps(exported.records, indent=2))
    else:
        header = ["file", "size", "largest difference", "same top class", "accuracy", "one photo", "gate"]
        _print_table(header, summary(exported))
        print(f"in {exported.folder}, with report.json")
    return GOOD


def run_predict(settings: PredictSettings) -> int:
    """Classify photos."""
    from image_classification_trash.models.predict_model import predict, rows

    bundle, predictions = predict(settings)
    if settings.json_output:
        document = {"model": bundle.config.name, "predictions": list(rows(predictions, bundle.config.labels))}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif settings.csv is None:
        _print_table(
            ["photo", "decision", "probability", "label"],
            [
                [
                    p.path,
                    p.decision or "error",
                    f"{p.probability:.1%}" if p.probability else "",
                    p.label or p.error or "",
                ]
                for p in predictions
            ],
        )
    return SOME_UNREADABLE if any(p.error for p in predictions) else GOOD


class Command(NamedTuple):
    """A verb: its settings, and the function that carries it out and returns the exit status."""

    settings: type[StageSettings]
    run: Callable[[Any], int]


COMMANDS = {
    command.settings.stage: command
    for command in (
        Command(DataSettings, run_data),
        Command(ExploreSettings, run_explore),
        Command(FeatureSettings, run_features),
        Command(TrainSettings, run_train),
        Command(EvaluateSettings, run_evaluate),
        Command(ExportSettings, run_export),
        Command(PredictSettings, run_predict),
    )
}


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit status."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    verb, rest = _parse_verb(arguments)
    command = COMMANDS[verb]
    try:
        return command.run(load_settings(command.settings, rest))
    except TrashClassifierError as error:
        print(f"error: {error.found}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return WRONG_USE if isinstance(error, SettingsError) else FAILED
    except ModuleNotFoundError as error:
        print(f"error: {verb} needs the library {error.name}, which is not installed.", file=sys.stderr)
        print('  Install it with: pip install "image-classification-trash[train]"', file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"error: {error}.", file=sys.stderr)
        print(
            "  Nothing half-written is left behind; mend the cause and run the command again.",
            file=sys.stderr,
        )
        return FAILED
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def main(prefix: Sequence[str] = ()) -> None:
    """Entry point of the command, and of the scripts `python -m ...`, which put their verb in front."""
    sys.exit(run([*prefix, *sys.argv[1:]]))


def _parse_verb(arguments: Sequence[str]) -> tuple[str, list[str]]:
    verbs = "\n".join(
        f"  {name:<10} {(c.settings.__doc__ or '').splitlines()[0]}" for name, c in COMMANDS.items()
    )
    parser = argparse.ArgumentParser(
        prog="trash-classifier",
        usage="trash-classifier COMMAND [--help] ...",
        description="Sort waste by photo.",
        epilog=f"commands:\n{verbs}\n\nAsk a command for its settings: trash-classifier train --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="what to do, see below")
    parsed = parser.parse_args(arguments[:1])
    return parsed.command, list(arguments[1:])


def _near_duplicate_embedder(settings: DataSettings) -> Any:
    if not settings.embeddings:
        return None
    from image_classification_trash.models.features_of_data import near_duplicate_embedder

    return near_duplicate_embedder(settings.interim_dir)


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
