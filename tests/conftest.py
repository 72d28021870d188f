"""Two test processes share the cores: one thread each, or a library that spins while waiting starves the other."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch

torch.set_num_threads(1)
