"""Trained networks as ONNX, SavedModel and TFLite, and the check that they answer alike."""
