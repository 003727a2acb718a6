"""Everything that a training is made of: data, batches, heads, fine-tuning, checkpoints."""
