"""A validation error over the seconds of a training, ours or the reference way's, each stage in its own process."""
