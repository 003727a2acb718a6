"""Evaluate a saved bundle on the test split of its data set, or on any labelled folder.

    trash-classifier evaluate models/trashnet --data ~/photos-of-my-own

Nothing is scored in memory: the bundle is loaded from disk, and photos are decoded as in prediction.
"""

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.config.models import EvaluateSettings
from image_classification_trash.data.archive import unpack
from image_classification_trash.data.manifest import Manifest, Photo, read_manifest
from image_classification_trash.data.sources import read_source
from image_classification_trash.errors import DatasetError, PhotoError
from image_classification_trash.evaluation.calibration import prediction_sets, uncalibrated
from image_classification_trash.evaluation.comparison.answers import (
    Answer,
    answers_csv,
    predictions_file,
)
from image_classification_trash.evaluation.export_report import read_export_report
from image_classification_trash.evaluation.metrics import (
    accepted,
    accuracy_at_coverage,
    describe,
    reliability,
    risk_coverage,
)
from image_classification_trash.evaluation.model_card import model_card
from image_classification_trash.evaluation.rejection import measure_rejection, photos_in
from image_classification_trash.evaluation.result import (
    TEST,
    Conditions,
    Evaluation,
    LabelledPhotos,
    Metrics,
    SourceFigures,
    photos_name,
    read_metrics,
    without_undefined,
)
from image_classification_trash.features.content_cache import writable
from image_classification_trash.files import as_text, only_writer, sha256_of, sha256_of_file
from image_classification_trash.inference.bundle import (
    CARD,
    METRICS,
    NEGATIVE_LABEL,
    Bundle,
    add_to_bundle,
    renamed,
)
from image_classification_trash.inference.classifier import Prediction, TrashClassifier
from image_classification_trash.inference.images import photo_bytes
from image_classification_trash.inference.model_store import chosen_bundle
from image_classification_trash.inference.runtimes import read_model
from image_classification_trash.provenance import machine
from image_classification_trash.tracking.wandb_tracker import tracking


def evaluate(settings: EvaluateSettings) -> Evaluation:
    """Evaluate a bundle and write the metrics and the model card into it; an exported file is measured as it is.

    Raises:
        BundleError: there is no model, or it is damaged.
        DatasetError: no photos, a class that the model does not know, or another data set than the training data.
        MissingExtraError: the tracker's library is not installed.
        BusyError: a training, evaluation or export of the same model is running.
    """
    path = chosen_bundle(settings.bundle, settings.models_dir)
    written = nullcontext() if path.is_file() else only_writer(path)
    with written, tracking(settings, settings.reports_dir, "evaluate") as tracker:
        evaluation = _evaluate(settings, read_model(path))
        tracker.log_evaluation(evaluation)
    return evaluation


def _evaluate(settings: EvaluateSettings, bundle: Bundle) -> Evaluation:
    earlier, exports = read_metrics(bundle), read_export_report(bundle)
    photos = (
        labelled_folder(settings.data, settings.interim_dir, bundle)
        if settings.data
        else own_test_split(settings, bundle)
    )
    classifier = (
        TrashClassifier.load(bundle.path) if bundle.is_file else TrashClassifier.load(bundle, runtime="torch")
    )
    predictions = _predict(classifier, photos.paths, photos.name, settings.batch_size)
    good = [i for i, prediction in enumerate(predictions) if prediction.error is None]
    classes = bundle.config.classes
    y_true = np.array([classes.index(photos.labels[i]) for i in good], dtype=np.int64)
    answers = [predictions[i] for i in good]
    probabilities = np.array([[answer.probabilities[label] for label in classes] for answer in answers])
    unreadable = tuple(prediction for prediction in predictions if prediction.error is not None)
    sources = [photos.sources[i] for i in good] if photos.sources else []
    metrics = _measure(bundle, photos, y_true, probabilities, settings)
    metrics = replace(
        metrics,
        unreadable=len(unreadable),
        by_source=by_source(bundle, sources, y_true, probabilities, settings) if sources else None,
    )
    outside = settings.not_waste
    others = photos.not_waste if outside is None else {outside.name: photos_in(outside)}
    apart = {name: _predict(classifier, paths, name, settings.batch_size) for name, paths in others.items()}
    if outside is not None:
        metrics = replace(
            metrics, not_waste=measure_rejection(bundle, answers, apart[outside.name], settings)
        )
    elif apart:
        metrics = with_not_waste(metrics, bundle, answers, apart, settings)
    kept = labelled_answers(photos, predictions)
    paths = tuple(photos.paths[i] for i in good)
    found = Evaluation(bundle, photos, y_true, of_classes(probabilities), paths, metrics, unreadable, kept)
    if bundle.is_file:
        return found
    card = model_card(bundle.config, earlier | {photos.name: metrics}, exports)
    before = {name: without_undefined(renamed(figures)) for name, figures in bundle.metrics().items()}
    measured = before | {photos.name: metrics.as_json()}
    root = outside or photos.root
    rejected = [answer_of(one, root) for ones in apart.values() for one in ones if one.error is None]
    files = {
        METRICS: json.dumps(measured, indent=2, ensure_ascii=False) + "\n",
        CARD: card,
        predictions_file(photos.name): answers_csv([*kept, *rejected]),
    }
    add_to_bundle(bundle, files)
    return found


def labelled_answers(photos: LabelledPhotos, predictions: Sequence[Prediction]) -> tuple[Answer, ...]:
    """Return what is kept of the answers for labelled photos, without the unreadable ones."""
    groups = photos.groups or ("",) * len(photos.paths)
    return tuple(
        answer_of(prediction, photos.root, label, group)
        for prediction, label, group in zip(predictions, photos.labels, groups, strict=True)
        if prediction.error is None
    )


def answer_of(prediction: Prediction, root: Path, y_true: str = "", group: str = "") -> Answer:
    """Return what is kept of the answer for a readable photo below `root`; without a class for a photo without waste."""
    assert prediction.label is not None and prediction.probability is not None and prediction.decision
    path = Path(os.path.relpath(prediction.path, root)).as_posix()
    return Answer(
        as_text(path), y_true, prediction.label, prediction.probability, prediction.decision,
        prediction.waste_score, group,
    )  # fmt: skip


def of_classes(shares: Floats) -> Floats:
    """Return the class probabilities given that a photo shows waste: rows (N, C) that sum to 1."""
    return np.asarray(shares / np.maximum(shares.sum(1, keepdims=True), 1e-12))


def own_test_split(settings: EvaluateSettings, bundle: Bundle) -> LabelledPhotos:
    """Return the test split of the data set that the bundle was trained on.

    Raises:
        DatasetError: the data set is not prepared here, was prepared differently, has changed photos, or has no test split.
    """
    data = bundle.config.data
    if bundle.is_file and not (settings.processed_dir / data["name"]).is_dir():
        found = f"{bundle.path} was trained on the data set {data['name']}, which is not in {settings.processed_dir}."
        raise DatasetError(found, "Give labelled photos with --data.")
    manifest = read_manifest(settings.processed_dir / data["name"])
    if manifest.fingerprint != data["fingerprint"]:
        found = (
            f"{settings.processed_dir / data['name']} is not what {bundle.path} was trained on "
            f"(fingerprint {manifest.fingerprint[:12]}, not {data['fingerprint'][:12]}): test photos may be training photos."
        )
        raise DatasetError(found, f"Train again: trash-classifier train {data['name']}")
    photos = manifest.photos_of("test")
    if not photos:
        raise DatasetError(f"{data['name']} has no test split.", "Give labelled photos with --data.")
    check_unchanged(manifest, [*photos, *(photo for photo in manifest.not_waste if photo.split == "test")])
    paths = tuple(manifest.path_of(photo) for photo in photos)
    sources = tuple(photo.source for photo in photos) if manifest.metadata.sources else ()
    not_waste: dict[str, list[Path]] = defaultdict(list)
    for photo in manifest.not_waste:
        if photo.split == "test":
            not_waste[photo.source].append(manifest.path_of(photo))
    return LabelledPhotos(
        TEST,
        paths,
        tuple(photo.label for photo in photos),
        manifest.fingerprint,
        sources,
        {name: tuple(found) for name, found in sorted(not_waste.items())},
        manifest.root,
        tuple(photo.group for photo in photos),
    )


def check_unchanged(manifest: Manifest, photos: Sequence[Photo]) -> None:
    """Refuse photos that are not those which were compared with the training photos; unreadable ones are left to prediction.

    Raises:
        DatasetError: the content of a photo is not what the manifest says.
    """
    changed = []
    for photo in photos:
        with suppress(PhotoError):
            if sha256_of(photo_bytes(manifest.path_of(photo))) != photo.sha256:
                changed.append(photo)
    if changed:
        found = (
            f"{len(changed)} of {len(photos)} test photos in {manifest.root} were changed after the data set was prepared, "
            f"such as {as_text(changed[0].path)}: they may be training photos."
        )
        raise DatasetError(
            found, f"Prepare the data set and train again: trash-classifier data {manifest.name}"
        )


def by_source(
    bundle: Bundle, sources: Sequence[str], y_true: Ints, shares: Floats, settings: EvaluateSettings
) -> dict[str, SourceFigures]:
    """Measure the photos of each source on their own.

    Args:
        bundle: the model.
        sources: source of each of N photos.
        y_true: class numbers (N,).
        shares: probabilities (N, C), which sum to the probability of waste.
        settings: resamples and seed of the intervals.
    """
    config, figures = bundle.config, {}
    waste = shares.sum(1) if config.negative_label is not None else None
    for name in sorted(set(sources)):
        own = np.flatnonzero(np.array(sources) == name)
        scores = describe(
            y_true[own], of_classes(shares[own]), config.classes, settings.resamples, settings.seed
        )
        sure = None if waste is None else waste[own]
        figures[name] = SourceFigures(
            **vars(scores),
            accepted=accepted(y_true[own], shares[own], config.threshold, sure, config.negative_threshold),
            accuracy_at_coverage=accuracy_at_coverage(
                y_true[own], shares[own], 0.8, settings.resamples, settings.seed
            ),
        )
    return figures


def with_not_waste(
    metrics: Metrics,
    bundle: Bundle,
    waste: Sequence[Prediction],
    apart: Mapping[str, Sequence[Prediction]],
    settings: EvaluateSettings,
) -> Metrics:
    """Return the metrics with the rejection of the data set's own test photos without waste, in all and by source."""
    together = [answer for answers in apart.values() for answer in answers]
    name = f"{bundle.config.data['name']}, {NEGATIVE_LABEL}"
    single = {
        source: measure_rejection(bundle, waste, answers, settings, source)
        for source, answers in apart.items()
    }
    whole = measure_rejection(bundle, waste, together, settings, name)
    return replace(metrics, not_waste=whole, not_waste_by_source=single)


def labelled_folder(path: Path, interim_dir: Path, bundle: Bundle) -> LabelledPhotos:
    """Read any labelled folder, zip or CSV.

    Args:
        path: of it.
        interim_dir: where a zip is unpacked.
        bundle: the model, which must know its classes.

    Raises:
        DatasetError: it cannot be read, or holds a class that the model does not know.
    """
    if path.suffix.lower() == ".zip" and path.is_file():
        target = interim_dir / "evaluate" / sha256_of_file(path)[:16]
        if not target.is_dir():
            target = writable(interim_dir) / "evaluate" / target.name
        if not target.is_dir():
            unpack(path, target)
        source = read_source(target)
    else:
        source = read_source(path)
    unknown = sorted({file.label for file in source.files} - set(bundle.config.classes))
    if unknown:
        known = ", ".join(bundle.config.classes)
        found = f"{path} holds classes that the model does not know: {', '.join(unknown)}."
        raise DatasetError(found, f"It knows: {known}. Rename their folders, or start their names with _.")
    paths = tuple(source.root / file.path for file in source.files)
    labels = tuple(file.label for file in source.files)
    listing = json.dumps([(file.path, file.label) for file in source.files])
    return LabelledPhotos(photos_name(path), paths, labels, sha256_of(listing.encode()), root=source.root)


def _predict(
    classifier: TrashClassifier, paths: Sequence[Path], name: str, batch_size: int
) -> list[Prediction]:
    stream = classifier.stream(paths, batch_size)
    predictions = list(tqdm(stream, total=len(paths), desc=f"evaluate on {name}", unit="photo"))
    if all(prediction.error is not None for prediction in predictions):
        found = f"None of the {len(predictions)} photos of {name} can be read: {predictions[0].error}"
        raise DatasetError(found, "Check the files.")
    return predictions


def _measure(
    bundle: Bundle, photos: LabelledPhotos, y_true: Ints, probabilities: Floats, settings: EvaluateSettings
) -> Metrics:
    config, shares = bundle.config, probabilities
    waste = shares.sum(1) if config.negative_label is not None else None
    probabilities = of_classes(shares)
    before = uncalibrated(probabilities, config.temperature)
    conditions = Conditions(
        data=config.data["name"] if photos.name == TEST else photos.name,
        part=photos.name,
        fingerprint=photos.fingerprint,
        split=config.data["split"] if photos.name == TEST else None,
        training_seed=config.training["settings"]["seed"],
        interval=f"95%, bootstrap, {settings.resamples} resamples, seed {settings.seed}; Wilson at 0 and 100%",
        machine=machine(),
    )
    mass = config.conformal_threshold
    return Metrics(
        **vars(describe(y_true, probabilities, config.classes, settings.resamples, settings.seed)),
        conditions=conditions,
        reliability_before=reliability(y_true, before),
        reliability=reliability(y_true, probabilities),
        risk_coverage_area=risk_coverage(y_true, probabilities).area,
        accepted=accepted(y_true, shares, config.threshold, waste, config.negative_threshold),
        prediction_set=None if mass is None else prediction_sets(y_true, probabilities, mass),
        accuracy_at_coverage=accuracy_at_coverage(y_true, shares, 0.8, settings.resamples, settings.seed),
    )
