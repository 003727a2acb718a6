"""The one place where TensorFlow is imported, and how: quietly, and after torchvision.

The LLVM inside torchvision's libraries and the one inside TensorFlow collide when TensorFlow comes first.
"""

import os

os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "3"
)  # it greets everyone on standard error; errors come as exceptions
os.environ.setdefault(
    "TF_ENABLE_ONEDNN_OPTS", "0"
)  # and has another greeting for this; speed is not needed here

import torchvision  # noqa: F401

import tensorflow as tf  # isort: skip
from tensorflow.lite.python.util import modify_model_io_type  # isort: skip

__all__ = ["modify_model_io_type", "tf"]
