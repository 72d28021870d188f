"""The progress line."""

import pytest

from engine.tracking.opening import LogConfig
from engine.training.metrics_log import RunLog

SHOWN = {
    "a CPU that the loader keeps busy": ({"data_wait_share": 0.05}, "loss=1.235, images/s=1234"),
    "a GPU that waits": ({"data_wait_share": 0.061, "mfu": 0.4567}, "loss=1.235, images/s=1234, MFU=46%, data=6%"),
}


@pytest.mark.parametrize("case", SHOWN)
def test_the_progress_line_says_what_holds_the_run(tmp_path, case):
    speed, shown = SHOWN[case]
    log = RunLog(tmp_path, LogConfig(to=()), {}, on=True, position=0, step=0, total_steps=9)
    log.training(1, {"loss": 1.23456}, {"images_per_second": 1234.4} | speed)
    line = str(log._bar)
    log.close()
    assert line.endswith(f", {shown}]")
