"""The REST gateway: routes, protocols, page, request bodies and errors."""
