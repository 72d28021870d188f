"""What holds a run: where most of the time goes that it could do without, in one sentence with a remedy."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from engine.config import TrainConfig
from engine.precision import is_native
from engine.profiling.throughput import Rate
from engine.stages import is_own
from loaders.stage_times import STAGES
from loaders.system.cores import cores_per_process

_RELEVANT: Final = 0.2
"""Share of the time from which on something else than computing holds a run (0 to 1)."""


@dataclass(frozen=True)
class Bottleneck:
    """What holds a run."""

    what: str
    """A stage of the loader, see `loaders.stage_times.STAGES`; or network (on a CPU), device, host, checkpoints,
    validation, exchange, process."""
    share: float
    """Of the time of training, checkpoints and validation: what was spent on it, or on waiting for it (0 to 1)."""
    sentence: str
    """The same for people, and what to try."""


def find_bottleneck(rates: Sequence[Rate], config: TrainConfig, device: torch.device) -> Bottleneck:
    """Return what holds a run.

    Computing is what a run is for, so anything else comes first that takes a fifth of the time or more.

    Args:
        rates: of the processes, by rank.
        config: of the run.
        device: what the processes compute on.
    """
    waits = [rate.waited / rate.whole for rate in rates]
    exchanges = [min(rate.exchanging, rate.seconds) / rate.whole for rate in rates]
    # a process that waits for its own data makes the others wait in the exchange of gradients
    spread = max(exchanges) - min(exchanges) - (max(waits) - min(waits))
    shares = {
        "data": max(waits),
        "checkpoints": statistics.mean(rate.saving / rate.whole for rate in rates),
        "validation": statistics.mean(rate.validating / rate.whole for rate in rates),
        "exchange": min(exchanges),
        "process": max(0.0, spread),
        "host": statistics.mean((rate.host or 0.0) / rate.whole for rate in rates),
    }
    what = max(shares, key=lambda name: shares[name])
    if what == "data" and shares[what] >= _RELEVANT:
        return _of_loader(rates, waits, config, device)
    if shares[what] < _RELEVANT:
        what, share = ("device" if device.type == "cuda" else "network"), max(0.0, 1 - sum(shares.values()))
    else:
        share = shares[what]
    facts = {
        "checkpoints": f"checkpoints hold this run: it stood still for them for {share:.0%} of its time",
        "validation": f"validation holds this run: it took {share:.0%} of its time",
        "exchange": f"the exchange of gradients holds this run: processes waited for it for {share:.0%} of the time",
        "process": f"process {exchanges.index(min(exchanges))} holds this run: the others waited for it for "
        f"{share:.0%} of the time",
        "host": f"the host holds this run: the GPU waited for what Python starts for {share:.0%} of the time",
        "network": f"the network on the CPU holds this run: computing it took {share:.0%} of the time",
        "device": f"the GPU holds this run, as it should: it computed for {share:.0%} of the time",
    }
    return _bottleneck(what, share, facts[what], _remedies(config, device, len(rates)))


def _of_loader(rates: Sequence[Rate], waits: Sequence[float], config: TrainConfig, device: torch.device) -> Bottleneck:
    """Return the stage that keeps its threads busiest in the loader that was waited for most."""
    slowest = waits.index(max(waits))
    rate, share = rates[slowest], waits[slowest]
    seconds = rate.loader.seconds
    crew = max(rate.crews, key=lambda crew: sum(seconds[stage] for stage in crew.stages) / crew.threads)
    stage = max(crew.stages, key=lambda stage: seconds[stage])
    busy = min(1.0, seconds[stage] / crew.threads / rate.seconds)
    slow = [rank for rank, wait in enumerate(waits) if wait >= share / 2]
    whose = "it" if len(slow) == len(rates) else " and ".join(f"process {rank}" for rank in slow)
    where = "this run" if len(slow) == len(rates) else f"this run at {whose}"
    threads = f"{crew.threads} threads" if crew.threads > 1 else "a thread"
    fact = (
        f"{STAGES[stage]} holds {where}: {whose} waited for data for {share:.0%} of the time, and {STAGES[stage]} kept "
        f"{threads} busy for {busy:.0%} of the training"
    )
    return _bottleneck(stage, share, fact, _remedies(config, device, len(rates)))


def _bottleneck(what: str, share: float, fact: str, remedies: Mapping[str, Sequence[str]]) -> Bottleneck:
    return Bottleneck(what, round(share, 4), f"{fact}; try {', or '.join(filter(None, remedies[what]))}")


def _remedies(config: TrainConfig, device: torch.device, processes: int) -> dict[str, Sequence[str]]:
    """Return what there is to try, by what holds a run; empty texts are for what this run does already."""
    cores, on_gpu = cores_per_process(), device.type == "cuda"
    threads = f"more --data.threads: there are {cores} cores for them" if config.data.thread_count() < cores else ""
    size = "shards of the size that is trained with, or smaller: tools.shard --image-size"
    no_decoding = "shards that need no decoding: tools.shard --image-format raw"
    fast_dct = "" if config.data.fast_dct or config.data.decodes_on_gpu(device) else "--data.fast-dct"
    disk = "a faster disk or more memory"
    batch_size = "a larger --data.batch-size"
    precision = "--precision bf16" if config.precision == "fp32" and is_native("bf16", device) else ""
    compress = "" if config.distributed.compress_gradients else "--distributed.compress-gradients"
    every = " and --checkpoint.every" if config.checkpoint.every else ""
    smaller = "a smaller --model.backbone"
    if is_own(config.stage, config.model):
        smaller = "a smaller network"
    elif config.stage == "train3d":
        smaller = ""
    can_record = config.cuda_graph == "never" and processes == 1 and config.optim.grad_accum_steps == 1
    return {
        "read": (disk, size, "--data.access sequential on spinning disks" if config.data.access == "random" else ""),
        "raw": (threads, disk, size, "shards of a twelfth of the bytes: tools.shard --image-format jpeg"),
        "decode": (threads, fast_dct, no_decoding, size, "--data.backend dali" if on_gpu else ""),
        "warp": (threads, size, "--data.backend dali" if on_gpu else ""),
        "graph": (
            threads,
            f"--data.decode-on {'cpu' if config.data.decodes_on_gpu(device) else 'gpu'}" if on_gpu else "",
            fast_dct,
            no_decoding,
            size,
        ),
        "labels": ("cores that nothing else works on", "" if config.stage == "train3d" else batch_size),
        "copy": (size,),
        "network": ("a GPU", smaller, precision),
        "device": (precision, batch_size),
        "host": ("--cuda-graph always" if can_record else "", batch_size),
        "checkpoints": (f"a larger --checkpoint.minutes{every}; the first and the last one are always written",),
        "validation": ("a larger --validate-every; the first and the last one are always made",),
        "exchange": (compress, batch_size),
        "process": ("tools.doctor on its machine",),
    }
