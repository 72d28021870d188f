"""Other ways from stored frames to batches, one module each; none is imported before its way is opened."""
