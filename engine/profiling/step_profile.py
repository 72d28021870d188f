"""A trace of some steps, for Perfetto."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch.profiler import ProfilerActivity, profile, schedule

TRACE: Final = "profile.json.gz"
"""Opens in Perfetto and in Chrome's tracing page."""
_SKIPPED: Final = 5
"""First steps, in which memory is found and kernels are chosen."""
_WARMUP: Final = 1
_STEPS: Final = 5


class StepProfile:
    """Traces some steps after the first ones; off, it costs nothing."""

    def __init__(self, run_dir: Path, *, on: bool) -> None:
        """Write into ``run_dir``."""
        self._path = run_dir / TRACE
        self._profile: profile | None = None
        self.done = False
        """Whether the trace is written."""
        if on:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self._profile = profile(
                activities=activities,
                schedule=schedule(wait=_SKIPPED, warmup=_WARMUP, active=_STEPS, repeat=1),
                on_trace_ready=self._export,
                acc_events=True,
            )
            self._profile.start()

    def step(self) -> None:
        """Note that a step is over."""
        if self._profile is not None and not self.done:
            self._profile.step()

    @property
    def missed(self) -> bool:
        """Whether there was no step yet to trace, though it is on."""
        return self._profile is not None and self._profile.step_num <= _SKIPPED + _WARMUP

    def close(self) -> None:
        """Stop; a run that ends in the midst of the trace leaves what there is."""
        if self._profile is not None:
            self._profile.stop()

    def _export(self, traced: profile) -> None:
        if not self.done:
            traced.export_chrome_trace(str(self._path))
            self.done = True
