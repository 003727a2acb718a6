"""Prepared photos to arrays: pixel caches, backbone embeddings, augmentation."""
