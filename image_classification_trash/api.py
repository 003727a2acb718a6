"""The functions that `image_classification_trash` exports beside `TrashClassifier`: `train`, `evaluate`, `export_model`
and `adapt_model`.

Each does what the command of its verb does, with the same results. Settings are keyword arguments, named as in
`docs/reference/settings.md`; neither the environment nor, unless `config` names one, a recipe is read. What a command needs is
imported when its function is called.
"""

import time
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image_classification_trash.errors import SettingsError

if TYPE_CHECKING:
    from image_classification_trash.inference.bundle import Bundle
    from image_classification_trash.models.adapt_model import Adapted
    from image_classification_trash.models.export_model import Exported
    from image_classification_trash.visualization.evaluation_report import EvaluationReport

ORIGIN = "argument"
"""What messages call a setting that was given to a function."""


def train(data: str | PathLike[str] = "sample", **settings: Any) -> "Bundle":
    """Train a classifier, as `trash-classifier train` does.

    Args:
        data: a prepared data set by its name; or a folder, zip or CSV of photos, which is prepared first and whose test
            split is measured last.
        **settings: settings of the training, such as `epochs=3`, `output="bottles"` or `models_dir="models"`.

    Returns:
        The trained model. Of photos, `evaluate`'s figures are in `model.metrics()["test"]`.

    Raises:
        SettingsError: a setting is unknown (suggests the nearest) or impossible.
        DatasetError: there are no such data, or the name belongs to other photos.
        TrainingError: the training cannot be finished.
        BusyError: another training of the same name is running.

    Example:
        >>> from image_classification_trash import train
        >>> model = train("~/photos", epochs=3)  # doctest: +SKIP
        >>> model.path  # doctest: +SKIP
        PosixPath('models/photos')
    """
    from image_classification_trash.config.loader import combined  # noqa: PLC0415
    from image_classification_trash.config.training import TrainCommandSettings  # noqa: PLC0415
    from image_classification_trash.models.own_photos import (  # noqa: PLC0415
        data_set_or_photos,
        training_settings,
    )

    chosen = combined(TrainCommandSettings, {**settings, "name": fspath(data)}, origin=ORIGIN)
    if chosen.devices > 1:
        hint = "Run the command instead: trash-classifier train --devices"
        raise SettingsError("From Python, a training runs on one device.", hint)
    until = None if chosen.seconds is None else time.perf_counter() + chosen.seconds
    named = data_set_or_photos(chosen)
    if isinstance(named, str):
        from image_classification_trash.models.train_model import train as train_on_data_set  # noqa: PLC0415

        bundle = train_on_data_set(training_settings(chosen, named), until)
    else:
        from image_classification_trash.visualization.train_on_photos import train_on_photos  # noqa: PLC0415

        bundle = train_on_photos(chosen, named, until, from_environment=False).trained.bundle
    assert bundle is not None  # it is None in the second process of several devices only
    return bundle


def evaluate(model: "Bundle | str | PathLike[str] | None" = None, **settings: Any) -> "EvaluationReport":
    """Evaluate a model and write its report, as `trash-classifier evaluate` does.

    Args:
        model: a trained model; or its folder, name, version or alias; or an exported file, such as `shipped`; None for the
            newest in `models/`.
        **settings: settings of the evaluation, such as `data="~/photos-from-elsewhere"`.

    Returns:
        The figures (`metrics`), the verdict in plain words (`verdict`) and the path of the report (`page`).

    Raises:
        SettingsError: a setting is unknown (suggests the nearest) or impossible.
        BundleError: there is no such model, or it is damaged.
        DatasetError: no photos, a class that the model does not know, or another data set than the training data.

    Example:
        >>> from image_classification_trash import evaluate
        >>> evaluate("models/photos").verdict  # doctest: +SKIP
        'Verdict: good; 27 of 30 test photos right, 90.0% (95% interval 80.0 to 100.0). ...'
    """
    from image_classification_trash.config.loader import combined  # noqa: PLC0415
    from image_classification_trash.config.models import EvaluateSettings  # noqa: PLC0415
    from image_classification_trash.visualization.evaluation_report import evaluate_with_report  # noqa: PLC0415

    given = {**settings, "bundle": path_of(model)}
    if given.get("data") is not None:  # a shell would have expanded it
        given["data"] = Path(given["data"]).expanduser()
    return evaluate_with_report(combined(EvaluateSettings, given, origin=ORIGIN))


def export_model(model: "Bundle | str | PathLike[str] | None" = None, **settings: Any) -> "Exported":
    """Export a model to ONNX, TFLite and SavedModel and verify each file, as `trash-classifier export` does.

    Args:
        model: a trained model; or its folder, name, version or alias; None for the newest.
        **settings: settings of the export, such as `format=["tflite"]`.

    Returns:
        The folder of the files, and what the gate measured of each.

    Raises:
        SettingsError: a setting is unknown (suggests the nearest) or impossible.
        BundleError: there is no such model, or it is damaged.
        DatasetError: the data set that the model was trained on is not prepared here.
        ExportError: a file deviates too much from the model; the model is unchanged.
        MissingExtraError: the export extra is not installed.

    Example:
        >>> from image_classification_trash import export_model
        >>> export_model("models/photos", format=["tflite"]).folder  # doctest: +SKIP
        PosixPath('models/photos/export')
    """
    from image_classification_trash.config.loader import combined  # noqa: PLC0415
    from image_classification_trash.config.models import ExportSettings  # noqa: PLC0415
    from image_classification_trash.models.export_model import export  # noqa: PLC0415

    return export(combined(ExportSettings, {**settings, "bundle": path_of(model)}, origin=ORIGIN))


def adapt_model(
    model: "Bundle | str | PathLike[str] | None",
    photos: str | PathLike[str] | None,
    output: str,
    **settings: Any,
) -> "Adapted":
    """Adapt a model to a camera and its place from a few labelled photos, as `trash-classifier adapt` does.

    Args:
        model: a trained model, its folder, name, version or alias, or a .tflite file; `shipped` for the model that comes
            with the package; None as for the command. It is not changed.
        photos: folder with a folder of photos for each class, named as the model's labels; None with `unlabelled` alone.
        output: name of the new model in `models_dir`.
        **settings: further settings, such as `unlabelled="many-photos"` or `models_dir="models"`.

    Returns:
        The path of the new model, and how many of the photos are right before and after.

    Raises:
        SettingsError: a setting is unknown (suggests the nearest) or impossible.
        BundleError: there is no such model, it is damaged or in another format, or the name of the new one is in use.
        DatasetError: a folder is not named as a class, or there are no photos, or of one class only, too few or too many.
        ExportError: the head of a .tflite file cannot be changed.

    Example:
        >>> from image_classification_trash import adapt_model
        >>> adapt_model("shipped", photos="my-photos", output="my-place").path  # doctest: +SKIP
        PosixPath('models/my-place.tflite')
    """
    from image_classification_trash.config.loader import combined  # noqa: PLC0415
    from image_classification_trash.config.models import AdaptSettings  # noqa: PLC0415
    from image_classification_trash.models.adapt_model import adapt  # noqa: PLC0415

    given = {**settings, "model": path_of(model), "output": output}
    for name, folder in (("photos", photos), ("unlabelled", settings.get("unlabelled"))):
        if folder is not None:  # a shell would have expanded it
            given[name] = Path(folder).expanduser()
    return adapt(combined(AdaptSettings, given, origin=ORIGIN))


def path_of(model: "Bundle | str | PathLike[str] | None") -> Path | None:
    """Return the path or reference of a model, as the settings of a command take it."""
    if model is None:
        return None
    return Path(model).expanduser() if isinstance(model, str | PathLike) else model.path
