"""Serves a trained model: one pipeline, the REST gateway with its web page, the Lambda, the fetching of photos."""
