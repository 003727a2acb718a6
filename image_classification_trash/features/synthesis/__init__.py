"""Synthetic photos: cut-out objects on other backgrounds, corruptions, shifted validation photos."""
