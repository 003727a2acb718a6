"""Import TensorFlow, here only: quietly, and after torchvision.

The LLVM inside torchvision's libraries and the one inside TensorFlow collide if TensorFlow is imported first.
"""

import os

# TensorFlow logs to standard error when it is imported, and once more about oneDNN, whose speed is not needed here.
# Errors still arrive as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import torchvision  # noqa: F401

import tensorflow as tf  # isort: skip
from tensorflow.lite.python.util import modify_model_io_type  # isort: skip

__all__ = ["modify_model_io_type", "tf"]
