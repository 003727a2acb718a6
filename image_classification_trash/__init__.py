"""Sort waste by photo: prepare data, train, calibrate, evaluate and run an image classifier.

The public surface for programs is small::

    from image_classification_trash import TrashClassifier

    classifier = TrashClassifier.load()
    prediction = classifier("photo.jpg")
    print(prediction.label, prediction.probability, prediction.decision)

and, with the extra `train`, the way to a model of one's own::

    from image_classification_trash import evaluate, export_model, train

    model = train("~/photos")
    print(evaluate(model).verdict)
    export_model(model)

A model is adapted to a camera and its place from a few labelled photos, without that extra::

    from image_classification_trash import adapt_model

    adapt_model("shipped", photos="my-photos", output="my-place")

Everything else is reached through the command ``trash-classifier``.
"""

from image_classification_trash.errors import BundleError, PhotoError, TrashClassifierError
from image_classification_trash.version import __version__

TYPE_CHECKING = False  # not from typing, which takes longer to import than everything else here
if TYPE_CHECKING:
    from image_classification_trash.api import adapt_model, evaluate, export_model, train
    from image_classification_trash.inference.classifier import Prediction, TrashClassifier

__all__ = [
    "BundleError",
    "PhotoError",
    "Prediction",
    "TrashClassifier",
    "TrashClassifierError",
    "__version__",
    "adapt_model",
    "evaluate",
    "export_model",
    "train",
]


def __getattr__(name: str) -> object:
    """Import what needs NumPy when it is first used, so that the command can be stopped from its first moment on."""
    if name in ("adapt_model", "evaluate", "export_model", "train"):
        from image_classification_trash import api  # noqa: PLC0415

        return getattr(api, name)
    if name not in ("Prediction", "TrashClassifier"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from image_classification_trash.inference import classifier  # noqa: PLC0415

    return getattr(classifier, name)
