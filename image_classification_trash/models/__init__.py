"""Networks, training, evaluation and prediction. Everything here may import torch."""
