"""Two models on the same photos: the answers kept for each photo, paired differences, and what can be concluded."""
