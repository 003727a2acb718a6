"""Predictions on more photos than one command line takes: shards, stores, and the engines that answer shards."""
