"""Other ways from stored frames to batches, one module each; none imports its library before it is started.

What each takes: the shard set, samples of a batch, threads or worker processes, the dtype of images (float32 is
normalized to [-1, 1], NCHW, contiguous), and the seed of the shuffle.
"""
