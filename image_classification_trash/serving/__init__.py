"""A trained model answers requests: the REST gateway, its web page, and what a user's address leads to."""
