"""Compare a stream of photos with the data that a model was trained on."""
