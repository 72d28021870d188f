"""``engine.train`` with a core for each process: what `benchmarks.scaling` starts, under torchrun."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # before torch counts the cores
    rank = int(os.environ["LOCAL_RANK"])
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})

    from engine.train import main

    sys.exit(main())
