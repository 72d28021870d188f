"""Several processes: joining them, exchanges between them, and naming the one that failed or hangs."""

from engine.distributed.joining import join_processes
from engine.distributed.process import DistributedConfig, Process

__all__ = ["DistributedConfig", "Process", "join_processes"]
