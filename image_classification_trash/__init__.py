"""Sort waste by photo: prepare data, train, calibrate, evaluate and run an image classifier.

The public surface for programs is small::

    from image_classification_trash import TrashClassifier

    classifier = TrashClassifier.load()
    prediction = classifier("photo.jpg")
    print(prediction.label, prediction.probability, prediction.decision)

Everything else is reached through the command ``trash-classifier``.
"""

from image_classification_trash.errors import BundleError, PhotoError, TrashClassifierError
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
