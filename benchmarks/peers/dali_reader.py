"""DALI's own webdataset reader, with the operators that our graph has for images which need no resize."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.common import SHUFFLE_BUFFER, Batch, Batches, Dtype
from loaders import ReaderConfig, ShardSet
from loaders.format.index import index_name
from loaders.format.sample import META, POSE


@contextlib.contextmanager
def dali_reader(
    root: Path, batch_size: int, threads: int, *, device: torch.device, dtype: Dtype, seed: int
) -> Iterator[Batches]:
    """Shuffled within a buffer; uint8 images are NHWC on ``device``; labels are tensor lists of bytes."""
    from nvidia.dali import fn, pipeline_def, types  # noqa: PLC0415 - absent on some machines
    from torch.utils.dlpack import from_dlpack  # noqa: PLC0415

    from loaders.dali.graph import GraphSpec, ImageSpec, build_image  # noqa: PLC0415

    shard_set = ShardSet(root, "train")
    gpu = device.type == "cuda"
    image_spec = ImageSpec(encoded=True)
    spec = GraphSpec(
        images=(image_spec,),
        stored=shard_set.camera,
        window=shard_set.window,
        image_size=shard_set.window[2],
        moves=False,
        jitters_color=False,
        device="gpu" if gpu else "cpu",
        hw_decoder_load=ReaderConfig.hw_decoder_load,
        decodes_on_gpu=gpu,
    )

    @pipeline_def  # type: ignore[untyped-decorator]
    def graph() -> tuple[Any, ...]:
        stored: Any = fn.readers.webdataset(
            paths=[str(shard_set.folder / shard.name) for shard in shard_set.shards],
            index_paths=[str(shard_set.folder / index_name(shard.name)) for shard in shard_set.shards],
            ext=[shard_set.manifest.image_member or "", POSE, META],
            random_shuffle=True,
            initial_fill=SHUFFLE_BUFFER,
            seed=seed,
        )
        encoded, pose, meta = stored
        image = build_image(encoded, image_spec, spec, None, None)
        if dtype == "float32":
            half = [127.5] * 3
            image = fn.crop_mirror_normalize(image, dtype=types.FLOAT, output_layout="CHW", mean=half, std=half)
        return image, pose, meta

    pipeline = graph(batch_size=batch_size, num_threads=threads, device_id=(device.index or 0) if gpu else None)
    pipeline.build()

    def stream() -> Iterator[Batch]:
        while True:
            image, pose, meta = pipeline.run(torch.cuda.current_stream(device) if gpu else None)
            yield from_dlpack(image.as_tensor()), pose, meta

    yield Batches(stream())
