"""Training, evaluating and using networks."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[1] / "models" / "siblings.py"))["check_siblings"](
    __name__, "loaders", "models"
)
