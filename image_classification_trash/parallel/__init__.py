"""How functions that do the same work with many items hand it out, without knowing to whom."""
