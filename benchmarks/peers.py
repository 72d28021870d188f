"""Other ways from a shard set to batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Session
from loaders import ShardSet
from loaders.sample import META, POSE
from loaders.shard_set import index_name

_SHUFFLE_BUFFER = 256
"""Samples that a reader mixes (samples)."""


@contextlib.contextmanager
def dali_reader(
    root: Path, batch_size: int, threads: int, *, device: torch.device, planes: bool, seed: int
) -> Iterator[Session]:
    """DALI's own webdataset reader with our decode graph; shuffled, with its label bytes.

    Args:
        root: the shard set.
        batch_size: samples of a batch.
        threads: of the pipeline.
        device: where the pictures go.
        planes: normalise to float32 NCHW; otherwise uint8 HWC.
        seed: of the shuffle.
    """
    from nvidia.dali import fn, pipeline_def, types  # noqa: PLC0415 - absent on some machines
    from torch.utils.dlpack import from_dlpack  # noqa: PLC0415

    from loaders.dali_graph import GraphSpec, Picture, build_picture  # noqa: PLC0415

    shard_set = ShardSet(root, "train")
    member = shard_set.manifest.image_member or ""
    camera = shard_set.camera
    gpu = device.type == "cuda"
    picture = Picture(encoded=True)
    spec = GraphSpec(
        pictures=(picture,),
        stored=camera,
        image_size=min(camera.width, camera.height),
        moves=False,
        recolours=False,
        device="gpu" if gpu else "cpu",
        hw_decoder_load=0.9,
    )

    @pipeline_def  # type: ignore[untyped-decorator]
    def graph() -> tuple[Any, ...]:
        stored: Any = fn.readers.webdataset(
            paths=[str(shard_set.folder / shard.name) for shard in shard_set.shards],
            index_paths=[str(shard_set.folder / index_name(shard.name)) for shard in shard_set.shards],
            ext=[member, POSE, META],
            random_shuffle=True,
            initial_fill=_SHUFFLE_BUFFER,
            seed=seed,
        )
        data, pose, meta = stored
        image = build_picture(data, picture, spec, None, None)
        if planes:
            image = fn.crop_mirror_normalize(
                image, dtype=types.FLOAT, output_layout="CHW", mean=[127.5] * 3, std=[127.5] * 3
            )
        return image, pose, meta

    pipeline = graph(
        batch_size=batch_size,
        num_threads=threads,
        device_id=(device.index or 0) if gpu else None,
        prefetch_queue_depth=2,
    )
    pipeline.build()

    def step() -> int:
        image, _, _ = pipeline.run(torch.cuda.current_stream(device) if gpu else None)
        return len(from_dlpack(image.as_tensor()))

    yield Session(step, torch.cuda.synchronize if gpu else lambda: None)


@contextlib.contextmanager
def webdataset_torchvision(root: Path, batch_size: int, workers: int, *, planes: bool, seed: int) -> Iterator[Session]:
    """The webdataset library with torchvision's JPEG decoder in DataLoader workers, as its manual shows.

    Args:
        root: the shard set.
        batch_size: samples of a batch.
        workers: processes.
        planes: normalise to float32 NCHW; otherwise uint8 NCHW.
        seed: of the shuffle.
    """
    import webdataset  # noqa: PLC0415 - absent on some machines

    shard_set = ShardSet(root, "train")
    decode = _Decode(shard_set.manifest.image_member or "", planes)
    urls = [str(shard_set.folder / shard.name) for shard in shard_set.shards]
    workers = min(workers, len(urls))
    samples = (
        webdataset.WebDataset(urls, shardshuffle=len(urls), seed=seed)
        .shuffle(_SHUFFLE_BUFFER)
        .map(decode)
        .batched(batch_size, partial=False)
        .repeat()
    )
    loader = webdataset.WebLoader(samples, batch_size=None, num_workers=workers, persistent_workers=True)
    batches = iter(loader)
    # the workers end with the iterator, which nothing holds when the session is over
    yield Session(lambda: len(next(batches)[0]))


class _Decode:
    """One sample of webdataset to (picture, pose bytes, meta bytes)."""

    def __init__(self, member: str, planes: bool) -> None:
        self._member = member
        self._planes = planes

    def __call__(self, sample: dict[str, Any]) -> tuple[Tensor, bytes, bytes]:
        from torchvision.io import ImageReadMode, decode_image  # noqa: PLC0415 - slow to import

        encoded = torch.frombuffer(bytearray(sample[self._member]), dtype=torch.uint8)
        image = decode_image(encoded, ImageReadMode.RGB)
        if self._planes:
            image = image.float().div_(127.5).sub_(1)
        return image, sample[POSE], sample[META]
