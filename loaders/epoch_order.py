"""The order of samples: a pure function of seed and epoch, cut into batches for any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

# SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): increment and the finalizer's multipliers
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)


def counter_hash(*counters: int | NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash integers, broadcast against each other, to uniform 64-bit numbers.

    Counter-based: no generator state, so any element can be computed alone, in any order, by any process.
    """
    with np.errstate(over="ignore"):
        state: NDArray[np.uint64] = np.zeros((), np.uint64)
        for counter in counters:
            state = (state ^ np.asarray(counter).astype(np.uint64)) + _GOLDEN
            state = (state ^ (state >> np.uint64(30))) * _MIX_1
            state = (state ^ (state >> np.uint64(27))) * _MIX_2
            state = state ^ (state >> np.uint64(31))
    return state


def epoch_order(seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    """Return the global permutation (samples,) of one epoch: position -> sample.

    It sorts hashed numbers: a library's shuffle may change with its version.
    """
    return np.argsort(counter_hash(seed, epoch, np.arange(samples)), kind="stable").astype(np.int64)


def shard_order(seed: int, epoch: int, shards: Sequence[int], window: int) -> NDArray[np.int64]:
    """Return a permutation (samples,) that goes through one shard after another: position -> sample.

    Each epoch shuffles the shards, and the samples within each window of a shard; windows keep their order, so that
    reading moves forward.

    Args:
        seed: of the order.
        epoch: number of the epoch.
        shards: samples in each shard.
        window: neighbors that are shuffled among themselves (samples).
    """
    first = np.cumsum([0, *shards])
    shard = np.repeat(np.arange(len(shards)), shards)
    sample = np.arange(len(shard))
    position = np.argsort(epoch_order(seed, epoch, len(shards)))
    return np.lexsort((counter_hash(seed, epoch, sample), (sample - first[shard]) // window, position[shard]))


def rank_batches(
    order: NDArray[np.int64], consumed: int, batch_size: int, *, rank: int, world_size: int, drop_last: bool
) -> list[NDArray[np.int64]]:
    """Return one rank's batches of what is left of an epoch.

    From position ``consumed`` on, each global batch takes ``batch_size * world_size`` positions, of which rank r gets
    the r-th part. With ``drop_last`` the last partial global batch is dropped, so all ranks get the same number of
    batches of the same size; without it every position is in exactly one batch of one rank, the last ones short.
    """
    left = order[consumed:]
    step = batch_size * world_size
    end = len(left) // step * step if drop_last else len(left)
    parts = [left[k + rank * batch_size : min(k + (rank + 1) * batch_size, end)] for k in range(0, end, step)]
    return [part for part in parts if len(part)]
