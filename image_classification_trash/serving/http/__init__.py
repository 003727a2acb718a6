"""Serves the pipeline over HTTP: routes, protocols, web page, request bodies, errors."""
