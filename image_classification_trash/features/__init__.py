"""From prepared photos to arrays: pixel caches, backbone embeddings, augmentation."""
