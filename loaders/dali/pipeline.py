"""Building and running DALI pipelines, and what their errors mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from nvidia import dali

from loaders.errors import InputError


class PipelineError(Exception):
    """What went wrong in a pipeline, which cannot be used any more."""


@dataclass(frozen=True)
class Pipelines:
    """Makes and runs the pipelines of one loader."""

    batch_size: int
    """Samples that go through a pipeline together."""
    threads: int
    prefetch: int
    """Batches prepared ahead."""
    device: torch.device

    def build(self, graph: Any, *arguments: Any, batch_size: int | None = None, **options: Any) -> Any:
        """Return a pipeline of a graph. Raises PipelineError, or InputError if DALI cannot use the GPU."""
        try:
            pipeline = graph(
                *arguments,
                **options,
                batch_size=batch_size or self.batch_size,
                num_threads=self.threads,
                device_id=(self.device.index or 0) if self.device.type == "cuda" else None,
                prefetch_queue_depth=self.prefetch,
            )
            pipeline.build()
        except RuntimeError as error:
            reason = _reason(error)
            if "cuda" in reason.lower():  # no sample's fault
                raise InputError(
                    f"DALI {dali.__version__} cannot use the GPU ({reason}): update the NVIDIA driver, install the "
                    "nvidia-dali-cuda120 of older drivers instead of nvidia-dali-cuda130, or give --data.backend torch"
                ) from error
            raise PipelineError(reason) from error
        return pipeline

    def run(self, pipeline: Any) -> Any:
        """Return a pipeline's next outputs, when they are complete. Raises PipelineError."""
        try:
            return pipeline.run()
        except RuntimeError as error:
            raise PipelineError(_reason(error)) from error


def _reason(error: RuntimeError) -> str:
    """Return what went wrong out of DALI's message, which tells of operators and of C++ first."""
    text = str(error).rpartition("encountered:")[2].strip()
    return " ".join(text.partition("C++ context")[0].partition("Current pipeline object")[0].split()).rstrip(" :")
