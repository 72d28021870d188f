"""One batch on the device, again and again: the upper bound that loading is compared with."""

from __future__ import annotations

from collections.abc import Iterator

from loaders.base import Indices, Loader
from loaders.batch import PoseBatch


class CachedBatchLoader(Loader):
    """Takes the first batch of another loader, closes it, and repeats that batch as often as it had batches."""

    def __init__(self, loader: Loader) -> None:
        super().__init__(
            loader.shard_set,
            loader.config,
            rank=loader.rank,
            world_size=loader.world_size,
            device=loader.device,
            training=loader.training,
            outputs=loader.outputs,
            dtype=loader.dtype,
        )
        batches = iter(loader)
        self._batch = next(batches)
        del batches
        loader.close()

    def _load(self, plan: list[Indices]) -> Iterator[PoseBatch]:
        for _ in plan:
            yield self._batch
