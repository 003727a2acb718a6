"""Raw photos to a table: fetch, verify, split, write the manifest."""
