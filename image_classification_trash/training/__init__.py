"""The steps of a training: data, batches, heads, fine-tuning, checkpoints."""
