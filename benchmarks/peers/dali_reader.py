"""DALI's own webdataset reader with our decoding graph."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.common import SHUFFLE_BUFFER, Batch, Batches
from loaders import ShardSet
from loaders.format.index import index_name
from loaders.format.sample import META, POSE


@contextlib.contextmanager
def dali_reader(
    root: Path, batch_size: int, threads: int, *, device: torch.device, image_size: int, planes: bool, seed: int
) -> Iterator[Batches]:
    """Shuffled within a buffer; labels are tensor lists of bytes.

    Args:
        root: the shard set.
        batch_size: samples of a batch.
        threads: of the pipeline.
        device: where the images go.
        image_size: their side (pixels).
        planes: normalize to float32 NCHW; otherwise uint8 HWC.
        seed: of the shuffle.
    """
    from nvidia.dali import fn, pipeline_def, types  # noqa: PLC0415 - absent on some machines
    from torch.utils.dlpack import from_dlpack  # noqa: PLC0415

    from loaders.dali.graph import GraphSpec, ImageSpec, build_image  # noqa: PLC0415

    shard_set = ShardSet(root, "train")
    member = shard_set.manifest.image_member or ""
    gpu = device.type == "cuda"
    kind = ImageSpec(encoded=True)
    spec = GraphSpec(
        images=(kind,),
        stored=shard_set.camera,
        image_size=image_size,
        moves=False,
        jitters_color=False,
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
            initial_fill=SHUFFLE_BUFFER,
            seed=seed,
        )
        data, pose, meta = stored
        image = build_image(data, kind, spec, None, None)
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

    def stream() -> Generator[Batch, None, None]:
        while True:
            image, pose, meta = pipeline.run(torch.cuda.current_stream(device) if gpu else None)
            yield from_dlpack(image.as_tensor()), pose, meta

    yield Batches(stream())
