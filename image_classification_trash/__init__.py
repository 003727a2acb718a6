"""Sort waste by photo: prepare data, train, calibrate, evaluate and run an image classifier.

The public surface for programs is small::

    from image_classification_trash import TrashClassifier

    classifier = TrashClassifier.load()
    prediction = classifier("photo.jpg")
    print(prediction.label, prediction.probability, prediction.decision)

Everything else is reached through the command ``trash-classifier``.
"""

from image_classification_trash.errors import BundleError, PhotoError, TrashClassifierError

TYPE_CHECKING = False  # not from typing, which takes longer to import than everything else here
if TYPE_CHECKING:
    from image_classification_trash.inference.classifier import Prediction, TrashClassifier

__version__ = "0.1.0"
__all__ = [
    "BundleError",
    "PhotoError",
    "Prediction",
    "TrashClassifier",
    "TrashClassifierError",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import what needs NumPy when it is first used, so that the command can be stopped from its first moment on."""
    if name not in ("Prediction", "TrashClassifier"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from image_classification_trash.inference import classifier  # noqa: PLC0415

    return getattr(classifier, name)
