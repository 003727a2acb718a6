"""Export trained networks to ONNX, SavedModel and TFLite, and check that they answer alike."""
