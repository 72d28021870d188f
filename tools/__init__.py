"""Commands on datasets, shard sets, checkpoints and the machine."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[1] / "models" / "siblings.py"))["check_siblings"](
    __name__, "engine", "loaders", "models"
)
