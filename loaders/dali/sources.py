"""Where a DALI loader's images and labels come from: memory-mapped tars, or DALI's own webdataset reader."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray
from nvidia.dali.tensors import TensorCPU
from torch.utils.dlpack import from_dlpack

from loaders.base import Indices
from loaders.codecs import Bytes, stored_size
from loaders.dali.graph import Feed, GraphSpec, Tars, mapped_graph, streamed_graph
from loaders.dali.pipeline import PipelineError, Pipelines
from loaders.errors import InputError
from loaders.format.index import write_index
from loaders.format.sample import META, META_SHAPE, POSE, POSE_SHAPE
from loaders.format.shard_set import ShardSet, image_data
from loaders.system.open_files import OpenFilesError, allow_open_files

_LABELS: Final = (POSE, META)

Labels = tuple[NDArray[np.float32], NDArray[np.int32]]
"""pose (n, 16, 5) and meta (n, 4)."""


class Source(ABC):
    """The samples of a shard set on their way into a DALI graph."""

    fed: ClassVar[bool]
    """Whether the graph asks for images through its feed; otherwise it reads them itself."""

    def __init__(self, shard_set: ShardSet, members: Sequence[str], pipelines: Pipelines) -> None:
        self.shard_set = shard_set
        self.members = tuple(members)
        """Members of a sample that hold the images of the graph."""
        self.pipelines = pipelines
        self.pipeline: Any = None

    @abstractmethod
    def start(self, spec: GraphSpec, batches: list[Indices], feed: Feed) -> None:
        """Get ready to load these batches. Raises PipelineError."""

    @abstractmethod
    def inputs(self, indices: Indices) -> list[Any]:
        """Return the images of a batch as the graph takes them, before the matrices. Raises PipelineError."""

    @abstractmethod
    def split(self, indices: Indices, outputs: Sequence[Any]) -> tuple[Labels, Sequence[Any]]:
        """Return a batch's labels, and those of the graph's outputs that are images. Raises PipelineError."""

    @abstractmethod
    def encoded(self, index: int, member: str) -> Bytes:
        """Return the bytes of one sample's member."""

    @abstractmethod
    def stop(self) -> None:
        """Forget the batches that were started and not delivered."""

    def run(self) -> Any:
        """Return the graph's next outputs. Raises PipelineError."""
        try:
            return self.pipelines.run(self.pipeline)
        except PipelineError:
            self.pipeline = None
            raise

    def close(self) -> None:
        """Free the pipeline and its threads."""
        self.pipeline = None

    def fault_of_header(self, data: Bytes, member: str) -> str:
        """Return what is wrong with an image's header; empty if it is as it should be."""
        try:
            height, width = stored_size(data, member)
        except ValueError as error:
            return f"cannot be decoded ({error})"
        camera = self.shard_set.camera
        if (height, width) == (camera.height, camera.width):
            return ""
        return f"has {width}x{height} pixels, not {camera.width}x{camera.height}"


class MappedSource(Source):
    """Bytes out of memory-mapped tars, in any order: one pipeline for all epochs."""

    fed = True

    def start(self, spec: GraphSpec, batches: list[Indices], feed: Feed) -> None:
        """Build the pipeline if there is none."""
        if self.pipeline is None:
            self.pipeline = self.pipelines.build(mapped_graph, feed, spec)

    def inputs(self, indices: Indices) -> list[Any]:
        """Return a list of arrays for each image of the graph. Raises PipelineError if one has no header."""
        lists = []
        for member in self.members:
            stored = image_data(self.shard_set, indices, member)
            if not member.endswith(".npy") and any(self.fault_of_header(data, member) for data in stored):
                raise PipelineError("an image's header is wrong")
            # DALI would wrap each array in turn, with many questions about what it is
            lists.append([TensorCPU(data) for data in stored])
        return lists

    def split(self, indices: Indices, outputs: Sequence[Any]) -> tuple[Labels, Sequence[Any]]:
        """Return the labels out of the tars; all outputs are images."""
        return (self.shard_set.pose(indices), self.shard_set.meta(indices)), outputs

    def encoded(self, index: int, member: str) -> Bytes:
        """Return a view into the tar."""
        return self.shard_set.member(index, member)

    def stop(self) -> None:
        """Take what is left in the pipeline out of it, so that the next epoch begins empty."""
        if self.pipeline is None:
            return
        try:
            while True:
                self.pipeline.run()
        except StopIteration:
            self.pipeline.reset()
        except RuntimeError:  # what nobody waits for may be undecodable
            self.pipeline = None


class StreamedSource(Source):
    """Images and labels through DALI's webdataset reader, which goes through tars, on disk or behind s3://.

    The reader takes samples in the order of its index files, so each epoch gets its own files and its own pipeline:
    batches, ranks and resuming are as exact as with mapped tars. The order should be local: shards, and neighbors
    within them, are shuffled.
    """

    fed = False

    _open: ClassVar[WeakSet[StreamedSource]] = WeakSet()
    """All that were not closed: training and validation read at the same time."""

    def __init__(self, shard_set: ShardSet, members: Sequence[str], pipelines: Pipelines) -> None:
        """Check that the tars can be opened and, where they are remote, read. Raises InputError."""
        super().__init__(shard_set, members, pipelines)
        self._open.add(self)
        self._allow_open(sum(len(one.shard_set.shards) for one in self._open if one.pipeline is None))
        if shard_set.remote:
            self._check_tars()

    def start(self, spec: GraphSpec, batches: list[Indices], feed: Feed) -> None:
        """Build a pipeline whose reader goes through these batches."""
        if not batches:
            return
        # the reader delivers whole batches only: short ones are filled up here, and cut again
        size = self.pipelines.batch_size
        # by one sample, since the reader opens a tar again whenever the order comes back to it
        order = np.concatenate([np.pad(indices, (0, size - len(indices)), "edge") for indices in batches])
        with self._tars(order, self.members, _LABELS) as tars:
            self.pipeline = self.pipelines.build(streamed_graph, feed, spec, tars)

    def inputs(self, indices: Indices) -> list[Any]:
        """Return none: the reader is in the graph."""
        return []

    def split(self, indices: Indices, outputs: Sequence[Any]) -> tuple[Labels, Sequence[Any]]:
        """Return the labels and images that were read; the outputs after them are the encoded images' sizes."""
        pose, meta = (from_dlpack(output.as_tensor()).numpy()[: len(indices)] for output in outputs[:2])
        images, sizes = outputs[2 : 2 + len(self.members)], outputs[2 + len(self.members) :]
        camera = self.shard_set.camera
        for size in sizes:
            if (from_dlpack(size.as_tensor()).numpy()[:, :2] != (camera.height, camera.width)).any():
                raise PipelineError("an image has another size than the manifest says")
        return (_tail(pose, "<f4", POSE_SHAPE), _tail(meta, "<i4", META_SHAPE)), images

    def encoded(self, index: int, member: str) -> Bytes:
        """Read one sample's member apart from the epoch. Raises InputError."""
        return self._read(np.array([index]), member)[0]

    def stop(self) -> None:
        """Drop the pipeline: what it has read ahead belongs to this epoch."""
        self.pipeline = None

    def close(self) -> None:
        """Free the pipeline, its threads and its open files."""
        self._open.discard(self)
        super().close()

    def _allow_open(self, tars: int) -> None:
        """Make sure that DALI's reader, which keeps all its tars open, may do so. Raises InputError."""
        if "://" in (self.shard_set.remote or ""):
            return
        try:
            allow_open_files(tars)
        except OpenFilesError as error:
            raise InputError(
                f"{self.shard_set.folder}: a stream keeps all its shards open; {error}; or write fewer, larger shards "
                "by --samples-per-shard; or take data.access random, which keeps none open"
            ) from None

    def _check_tars(self) -> None:
        """Read the end of every tar: nothing else shows before the first step that one is missing or cut."""
        ends = np.unique(np.cumsum([shard.samples for shard in self.shard_set.shards]) - 1)
        try:
            self._read(ends, META)
        except InputError:
            for end in ends:
                self._read(np.array([end]), META)
            raise

    def _read(self, indices: Indices, member: str) -> list[Bytes]:
        """Return a member's bytes of some samples, read apart from the epoch. Raises InputError."""
        camera = self.shard_set.camera
        spec = GraphSpec((), camera, 1, moves=False, jitters_color=False, device="cpu", hw_decoder_load=0)
        try:
            with self._tars(indices, (), (member,)) as tars:
                pipeline = self.pipelines.build(streamed_graph, tuple, spec, tars, batch_size=len(indices))
            (read,) = self.pipelines.run(pipeline)
        except PipelineError as error:
            tar = self.shard_set.location(int(self.shard_set.shard_of(indices)[0]))
            raise InputError(
                f"{tar} cannot be read ({error}): check the AWS_* environment variables, or copy the shard again"
            ) from None
        return [np.array(data) for data in read]

    @contextmanager
    def _tars(self, order: Indices, images: tuple[str, ...], labels: tuple[str, ...]) -> Iterator[Tars]:
        """Yield what makes the reader go through samples in this order; the index files last until it is built."""
        shards = self.shard_set.shard_of(order)
        runs = np.split(order, np.flatnonzero(np.diff(shards)) + 1)
        self._allow_open(len(runs))
        with tempfile.TemporaryDirectory(prefix="stream-") as folder:
            names = tuple(str(Path(folder, f"{number}.idx")) for number in range(len(runs)))
            for name, run in zip(names, runs, strict=True):
                write_index(Path(name), self.shard_set.entries(run, [*images, *labels]))
            paths = tuple(self.shard_set.location(int(self.shard_set.shard_of(run[:1])[0])) for run in runs)
            yield Tars(paths, names, images, labels, self.pipelines.prefetch)


def _tail(files: Bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    """Return the arrays (n, *shape) of .npy files (n, bytes)."""
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    return np.ascontiguousarray(files[:, -size:]).view(dtype).reshape(-1, *shape)
