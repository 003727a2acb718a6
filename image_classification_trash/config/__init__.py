"""Settings of each command: narrow models, filled by the loader alone from recipe, environment and flags."""
