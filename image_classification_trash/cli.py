"""The command `trash-classifier`: parses, calls one function, prints.

Results go to standard output, logs and progress bars to standard error. Exit status: 0 good; 1 an error that the
user can mend; 2 a wrong flag or setting; 3 finished, but some photos could not be read; 4 (monitor) the stream drifted.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from image_classification_trash import __version__
from image_classification_trash.config.verbs import VERBS, settings_of
from image_classification_trash.errors import SettingsError, TrashClassifierError

if TYPE_CHECKING:
    from image_classification_trash.config.base import DataSet, StageSettings, TrainedModel
    from image_classification_trash.config.data import (
        AuditSettings,
        DataSettings,
        ExploreSettings,
        FeatureSettings,
    )
    from image_classification_trash.config.models import (
        BenchmarkSettings,
        EvaluateSettings,
        ExportSettings,
        ModelsSettings,
        MonitorSettings,
        PredictSettings,
    )
    from image_classification_trash.config.serving import ServeSettings
    from image_classification_trash.config.training import TrainSettings, TuneSettings
    from image_classification_trash.inference.classifier import Prediction
    from image_classification_trash.models.predict_model import Predictions

NAMED = 3
"""Candidates that a line of the table names; the rest are `others`."""
GOOD, FAILED, WRONG_USE, SOME_UNREADABLE, DRIFTED = 0, 1, 2, 3, 4


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
    corrections = manifest.about.get("corrections")
    if corrections:
        print(f"corrections: {_corrections_line(corrections)}")
    problems = manifest.about["problems"]
    if problems:
        kinds = ", ".join(f"{count} {kind}" for kind, count in problems.items())
        print(f"left out: {kinds}; see {prepared.folder / 'problems.csv'}")
    overlap = manifest.about["near_duplicates"]["overlap"]["test"]
    share = f"{overlap['with_near_duplicate_in_train']} of {overlap['photos']}"
    print(f"test photos with a near-duplicate in train: {share} ({overlap['share']:.1%})")
    return GOOD


def run_audit(settings: AuditSettings) -> int:
    """Look for faults in a data set."""
    from image_classification_trash.models.audit_data import as_json, as_table, audit_data
    from image_classification_trash.visualization.audit_page import write_audit_page

    audit = audit_data(settings)
    page = write_audit_page(audit, settings)
    if settings.json_output:
        print(json.dumps(as_json(audit) | {"page": str(page)}, indent=2, ensure_ascii=False))
        return GOOD
    _print_table(["kind", "photos", "meaning", "first"], as_table(audit))
    for note in audit.notes:
        print(f"note: {note}")
    print(f"page: {page}\ntable: {audit.table}")
    print(f"decide in {audit.corrections}, then: trash-classifier data {settings.name} --corrections FILE")
    return GOOD


def run_explore(settings: ExploreSettings) -> int:
    """Draw a data set."""
    from image_classification_trash.visualization.visualize import explore

    print(explore(settings))
    return GOOD


def run_features(settings: FeatureSettings) -> int:
    """Fill the caches."""
    from image_classification_trash.features.build_features import build_features

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


def run_tune(settings: TuneSettings) -> int:
    """Search for settings of a training."""
    from image_classification_trash.models.tune_model import as_json, as_table, tune

    tuned = tune(settings)
    if settings.json_output:
        print(json.dumps(as_json(tuned), indent=2, ensure_ascii=False))
        return GOOD
    _print_table(["setting", "value"], as_table(tuned))
    print(f"recipe: {tuned.recipe}")
    print(f"Train with it: trash-classifier train --config {tuned.recipe}")
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


def run_models(settings: ModelsSettings) -> int:
    """List, compare and promote."""
    {"list": _list_models, "show": _list_models, "compare": _compare_models, "register": _register_model}.get(
        settings.action, _move_alias
    )(settings)
    return GOOD


def _list_models(settings: ModelsSettings) -> None:
    from image_classification_trash.models import promote_model as registry
    from image_classification_trash.models.wandb_registry import WandbRegistry

    named, models_dir = settings.models, settings.models_dir
    shown = [registry.show(named[0], models_dir)] if named else registry.entries(models_dir)
    linked = WandbRegistry(settings).rows(registry.names_of(shown)) if settings.registry == "wandb" else []
    if settings.json_output:
        document = {"models": [registry.entry_as_json(entry) for entry in shown], "wandb": linked}
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    header = ["model", "aliases", "data", "validation", "test accuracy (95% interval)", "exports"]
    _print_table(header, [registry.entry_as_row(entry) for entry in shown])
    if linked:
        _print_table(["in W&B's registry", *header[1:4]], linked)


def _compare_models(settings: ModelsSettings) -> None:
    from image_classification_trash.models import promote_model as registry

    rows = registry.compare(*(registry.bundle_of(name, settings.models_dir) for name in settings.models))
    if settings.json_output:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _print_table(["photos", "measure", *settings.models, ""], registry.comparison_rows(rows))


def _register_model(settings: ModelsSettings) -> None:
    from image_classification_trash.models.promote_model import bundle_of, register

    bundle = bundle_of(settings.models[0], settings.models_dir)
    version = register(bundle, settings.models_dir, settings.note)
    print(json.dumps({"version": str(version)}) if settings.json_output else f"{bundle.path} is {version}")


def _move_alias(settings: ModelsSettings) -> None:
    from image_classification_trash.models.promote_model import (
        gate_rows,
        promote,
        promotion_as_json,
        rollback,
    )

    moved = promote(settings) if settings.action == "promote" else rollback(settings)
    if settings.json_output:
        print(json.dumps(promotion_as_json(settings.alias, moved), indent=2, ensure_ascii=False))
        return
    before = f", and was {moved.replaced} before" if moved.replaced else ""
    print(f"{settings.alias} is {moved.version}{before}")
    if moved.gates:
        _print_table(["gate", "", "found"], gate_rows(moved.gates))


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


def run_benchmark(settings: BenchmarkSettings) -> int:
    """Time all files and engines."""
    from image_classification_trash.models.benchmark_model import as_json, as_table, benchmark
    from image_classification_trash.visualization.benchmark_plot import plot_benchmark

    bundle, timings = benchmark(settings)
    plot = plot_benchmark(bundle, timings, settings.reports_dir)
    if settings.json_output:
        print(json.dumps(as_json(bundle, timings), indent=2))
        return GOOD
    times = ["decode ms", "infer ms", "p95", "photos/s"]
    _print_table(
        ["engine", "file", "threads", "batch", *times, "load s", "MB", "file MB", "accuracy"],
        as_table(timings),
    )
    print(f"plot: {plot}" if plot else "no plot: matplotlib is not installed")
    return GOOD


def run_predict(settings: PredictSettings) -> int:
    """Classify photos."""
    from image_classification_trash.models.predict_model import predict, predict_to_file

    if settings.tables:
        count, unreadable = predict_to_file(settings)
        (path,) = settings.tables.values()
        print(f"{path}: {count} photos, {unreadable} of them unreadable", file=sys.stderr)
        return SOME_UNREADABLE if unreadable else GOOD
    predictions = predict(settings)
    show = _stream_json if settings.json_output else _stream_table
    return SOME_UNREADABLE if show(predictions) else GOOD


def run_monitor(settings: MonitorSettings) -> int:
    """Compare a stream with what was trained on."""
    from image_classification_trash.models.monitor_model import as_json, as_table, monitor, store_reference

    if settings.write_reference:
        print(f"reference: {store_reference(settings)}", file=sys.stderr)
    if not settings.sources:
        return GOOD
    found = monitor(settings)
    if settings.json_output:
        print(json.dumps(as_json(found), indent=2, ensure_ascii=False))
    else:
        _print_table(["compared", "value", "p", "chance reaches", "power", "stream is"], as_table(found))
        for message in found.unreadable:
            print(f"unreadable: {message}", file=sys.stderr)
        says = "no longer looks like" if found.has_drifted else "looks like"
        sizes = f"n = {found.photos}, against {found.reference_photos} validation photos"
        print(
            f"The stream {says} {found.bundle.config.data['name']} ({sizes}; each p against {found.level:.4f})."
        )
    if found.has_drifted:
        return DRIFTED
    return SOME_UNREADABLE if found.unreadable else GOOD


def run_serve(settings: ServeSettings) -> int:
    """Answer requests."""
    from image_classification_trash.serving.http.server import prepare

    server = prepare(settings)
    print(
        f"serving {server.classifier.config.name} at {server.url}, until Ctrl-C", file=sys.stderr, flush=True
    )
    server.run()
    return GOOD


def _stream_json(predictions: Predictions) -> int:
    """Print one JSON document, photo by photo; returns how many could not be read."""
    from tqdm import tqdm

    from image_classification_trash.inference.prediction_table import row_of

    config, errors = predictions.classifier.config, 0
    print(f'{{"model": {json.dumps(config.name, ensure_ascii=False)}, "predictions": [', end="")
    total = len(predictions.names)
    bar = tqdm(predictions.stream(), total=total, desc="classify", unit="photo", disable=total < 2)
    for number, prediction in enumerate(bar):
        errors += prediction.error is not None
        row = json.dumps(row_of(prediction, config.labels), ensure_ascii=False)
        print(f"{',' if number else ''}\n  {row}", end="")
    print("\n]}")
    return errors


def _stream_table(predictions: Predictions) -> int:
    """Print a line a photo as the answers come; returns how many could not be read."""
    labels = [*predictions.classifier.config.labels, "decision"]
    widths = (max(map(len, ["photo", *predictions.names])), max(map(len, labels)), len("probability"))
    errors = 0
    print(_line(("photo", "decision", "probability", "label"), widths))
    for p in predictions.stream():
        errors += p.error is not None
        probability = "" if p.probability is None else f"{p.probability:.1%}"
        print(_line((p.path, p.decision or "error", probability, _shown(p)), widths), flush=True)
    return errors


def _shown(prediction: Prediction) -> str:
    """The label, the first candidates where it is unsure, or the error."""
    if prediction.candidates and prediction.decision != prediction.label:
        more = ("others",) if len(prediction.candidates) > NAMED else ()
        return " or ".join((*prediction.candidates[:NAMED], *more))
    return prediction.label or prediction.error or ""


def data_set_is_there(settings: DataSet) -> None:
    """Refuse a data set that is not prepared, or damaged."""
    from image_classification_trash.data.manifest import read_manifest

    read_manifest(settings.processed_dir / settings.name)


def model_is_there(settings: TrainedModel) -> None:
    """Refuse a model that is not there, or damaged."""
    _check_bundle(settings.bundle, settings.models_dir)


def monitored_model_is_there(settings: MonitorSettings) -> None:
    """Refuse a model that is not there, or damaged."""
    _check_bundle(settings.model, settings.models_dir)


def _check_bundle(reference: Path | None, models_dir: Path) -> None:
    from image_classification_trash.inference.bundle import read_bundle
    from image_classification_trash.inference.model_store import chosen_bundle

    read_bundle(chosen_bundle(reference, models_dir))


class Command(NamedTuple):
    """What carries a verb out, and returns the exit status; and what is checked before it, while little is imported."""

    run: Callable[[Any], int]
    check: Callable[[Any], None] = lambda settings: None


COMMANDS = {
    "data": Command(run_data),
    "audit": Command(run_audit, data_set_is_there),
    "explore": Command(run_explore, data_set_is_there),
    "features": Command(run_features, data_set_is_there),
    "train": Command(run_train, data_set_is_there),
    "tune": Command(run_tune, data_set_is_there),
    "evaluate": Command(run_evaluate, model_is_there),
    "models": Command(run_models),
    "export": Command(run_export, model_is_there),
    "benchmark": Command(run_benchmark, model_is_there),
    "predict": Command(run_predict),
    "monitor": Command(run_monitor, monitored_model_is_there),
    "serve": Command(run_serve),
}


def load(verb: str, arguments: Sequence[str]) -> StageSettings:
    """Load a verb's settings, and check that the data set or the model that they name is there."""
    from image_classification_trash.config.loader import load_settings

    settings = load_settings(settings_of(verb), arguments)
    COMMANDS[verb].check(settings)
    return settings


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit status."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    verb, rest = _parse_verb(arguments)
    try:
        return COMMANDS[verb].run(load(verb, rest))
    except TrashClassifierError as error:
        print(f"error: {error.found}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return WRONG_USE if isinstance(error, SettingsError) else FAILED
    except ModuleNotFoundError as error:
        print(f"error: {verb} needs the library {error.name}, which is not installed.", file=sys.stderr)
        extra = {"serve": "serve", "tune": "train,tune"}.get(verb, "train")
        print(f'  Install it with: pip install "image-classification-trash[{extra}]"', file=sys.stderr)
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
    verbs = "\n".join(f"  {name:<10} {verb.help}" for name, verb in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="trash-classifier",
        usage="trash-classifier COMMAND [--help] ...",
        description="Sort waste by photo.",
        epilog=f"commands:\n{verbs}\n\nAsk a command for its settings: trash-classifier train --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("command", choices=VERBS, metavar="COMMAND", help="what to do, see below")
    arguments = in_one_word(arguments)
    parsed = parser.parse_args(arguments[:1])
    return parsed.command, list(arguments[1:])


def in_one_word(arguments: Sequence[str]) -> Sequence[str]:
    """`data audit NAME` is `audit NAME`: `data` takes one name, so two can mean nothing else."""
    if list(arguments[:2]) == ["data", "audit"] and arguments[2:3] and not arguments[2].startswith("-"):
        return arguments[1:]
    return arguments


def _corrections_line(corrections: dict[str, Any]) -> str:
    done = (
        ", ".join(f"{action} {count}" for action, count in corrections["photos"].items()) or "none accepted"
    )
    left = corrections["suggested_and_not_applied"]
    return f"{done}; {left} suggested ones were not applied ({corrections['file']})"


def _near_duplicate_embedder(settings: DataSettings) -> Any:
    if not settings.embeddings:
        return None
    from image_classification_trash.features.build_features import near_duplicate_embedder

    return near_duplicate_embedder(settings.interim_dir)


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        print(_line(row, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells side by side; those beyond the widths given are not padded."""
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
    return "  ".join([*padded, *cells[len(widths) :]]).rstrip()


if __name__ == "__main__":
    main()
