"""Photos made by rule: cut-out objects on other backgrounds, corruptions, shifted validation photos."""
