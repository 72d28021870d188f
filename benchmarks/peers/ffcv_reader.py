"""FFCV: its own file, its own decoders, compiled pipelines. Import this only where FFCV is installed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from ffcv import Loader
from ffcv.fields import BytesField, RGBImageField
from ffcv.fields.decoders import BytesDecoder, SimpleRGBImageDecoder
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.loader import OrderOption
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.transforms import Convert, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter
from numpy.typing import NDArray
from torchvision.transforms import Normalize

from benchmarks.peers.common import Batch, Batches, Dtype, torch_threads
from loaders import ShardSet
from loaders.format.sample import META, POSE
from loaders.format.shard_set import image_data

_HALF: Final = [127.5] * 3


class StoredJpeg(RGBImageField):  # type: ignore[misc]
    """An image whose JPEG bytes are kept; the stock field would encode them anew."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(write_mode="jpg")
        self._size = height, width

    def encode(self, destination: Any, content: NDArray[np.uint8], malloc: Callable[[int], tuple[int, Any]]) -> None:
        """Write the bytes (n,) of a JPEG; ``destination`` is FFCV's record of the sample."""
        destination["mode"] = IMAGE_MODES["jpg"]
        destination["height"], destination["width"] = self._size
        destination["data_ptr"], storage = malloc(content.size)
        storage[:] = content


class _Samples:
    """What FFCV's writer asks for: (image, pose bytes, meta bytes) of the first samples."""

    def __init__(self, shard_set: ShardSet, samples: int) -> None:
        self._shard_set = shard_set
        self._samples = samples

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], ...]:
        member = self._shard_set.manifest.image_member or ""
        (image,) = image_data(self._shard_set, [int(index)], member)
        return image, *(self._shard_set.member(int(index), name) for name in (POSE, META))


class OnePass(Operation):  # type: ignore[misc]
    """(H, W, 3) uint8 to (3, H, W) float32 in [-1, 1], in one pass over the floats."""

    def generate_code(self) -> Callable[..., Any]:
        """Return the function that FFCV compiles."""
        levels = (np.arange(256) / 127.5 - 1).astype(np.float32)
        samples = Compiler.get_iterator()

        def to_planes(images: Any, planes: Any) -> Any:
            for i in samples(len(images)):
                for row in range(images.shape[1]):
                    for channel in range(3):
                        for column in range(images.shape[2]):
                            planes[i, channel, row, column] = levels[images[i, row, column, channel]]
            return planes

        to_planes.is_parallel = True  # type: ignore[attr-defined]
        return to_planes

    def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, Any]:
        """Return what comes out, and the memory it needs."""
        height, width, _ = previous_state.shape
        shape, dtype = (3, height, width), np.dtype(np.float32)
        state = dataclasses.replace(previous_state, jit_mode=True, shape=shape, dtype=dtype)
        return state, AllocationQuery(shape, dtype)


def write_beton(root: Path, path: Path, samples: int, workers: int) -> None:
    """Write the first samples of a shard set's training split as FFCV's file; JPEG bytes stay what they are.

    Args:
        root: the shard set, JPEG or raw.
        path: of the file.
        samples: at most so many.
        workers: processes.
    """
    shard_set = ShardSet(root, "train")
    camera = shard_set.camera
    raw = (shard_set.manifest.image_member or "").endswith(".npy")
    image = RGBImageField(write_mode="raw") if raw else StoredJpeg(camera.height, camera.width)
    fields = {"image": image, "pose": BytesField(), "meta": BytesField()}
    # the writer's progress bar does not know ours
    with contextlib.redirect_stderr(io.StringIO()):
        writer = DatasetWriter(str(path), fields, num_workers=workers)
        writer.from_indexed_dataset(_Samples(shard_set, min(samples, len(shard_set))))


@contextlib.contextmanager
def ffcv_reader(
    path: Path, epoch: int, batch_size: int, threads: int, *, dtype: Dtype, one_pass: bool, seed: int
) -> Iterator[Batches]:
    """A global shuffle out of the page cache; labels are (B, n) uint8: the bytes as stored.

    Args:
        path: FFCV's file.
        epoch: samples of an epoch; if there are fewer, they come again and again.
        batch_size: samples of a batch.
        threads: of the compiled pipeline.
        dtype: uint8, channels_last; float32, NCHW.
        one_pass: normalize by `OnePass` instead of what comes with FFCV and torchvision.
        seed: of the shuffle.
    """
    # FFCV sets torch's threads for the whole process
    with torch_threads(), contextlib.ExitStack() as stack:
        loader = _loader(path, epoch, batch_size, threads, dtype=dtype, one_pass=one_pass, seed=seed)

        def stream() -> Iterator[Batch]:
            while True:
                batches = iter(loader)
                try:
                    yield from batches
                finally:
                    # its thread goes on until it is told, and then waits for room to say that an epoch is through
                    batches.close()
                    while batches.is_alive():
                        with contextlib.suppress(queue.Empty):
                            batches.output_queue.get(timeout=0.1)

        yield Batches(stack.enter_context(contextlib.closing(stream())))  # type: ignore[type-var]


@functools.cache
def _loader(path: Path, epoch: int, batch_size: int, threads: int, *, dtype: Dtype, one_pass: bool, seed: int) -> Any:
    """Return FFCV's loader; kept, so that its pipeline is compiled once."""
    if dtype == "uint8":
        transforms = [ToTensor(), ToTorchImage()]
    elif one_pass:
        transforms = [OnePass(), ToTensor()]
    else:
        # faster than FFCV's own NormalizeImage, which leaves the floats to be transposed
        normalize = Normalize(_HALF, _HALF, inplace=True)
        transforms = [ToTensor(), ToTorchImage(channels_last=False), Convert(torch.float32), normalize]
    labels = {name: [BytesDecoder(), ToTensor()] for name in ("pose", "meta")}
    common = {"batch_size": batch_size, "num_workers": threads, "order": OrderOption.RANDOM, "seed": seed}
    fields = {"image": RGBImageField}
    samples = Loader(str(path), **common, custom_fields=fields).reader.num_samples
    return Loader(
        str(path),
        **common,
        os_cache=True,
        indices=np.arange(epoch, dtype=np.uint64) % samples,
        pipelines={"image": [SimpleRGBImageDecoder(), *transforms], **labels},
        custom_fields=fields,
    )
