"""Labels without images: for stages that need none, nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from loaders.base import Indices, Loader
from loaders.batch import PoseBatch

_BATCHES_AT_ONCE: Final = 64
"""Batches whose labels are made and moved to the device in one go; the host's work per step all but vanishes."""


class LabelLoader(Loader):
    """Batches whose ``image`` is None; the labels of the whole split are read once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pose, self._meta = self.shard_set.labels()

    def _load(self, plan: list[Indices]) -> Iterator[PoseBatch]:
        for first in range(0, len(plan), _BATCHES_AT_ONCE):
            block = plan[first : first + _BATCHES_AT_ONCE]
            indices = np.concatenate(block)
            labels = self._label_batch(self._pose[indices], self._meta[indices], indices, self._draw(indices))
            yield from labels.to(self.device).split([len(part) for part in block])
