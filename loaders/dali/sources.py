"""Where a DALI loader's samples come from: memory-mapped tars, or DALI's own webdataset reader."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from loaders.base import Indices
from loaders.codecs import Bytes, PngLayout, png_layout
from loaders.dali.graph import Feed, GraphSpec, random_access_graph, sequential_graph
from loaders.dali.pipeline import PipelineError, Pipelines
from loaders.errors import InputError
from loaders.format.index import write_index
from loaders.format.sample import META, POSE, ROT, decode_arrays
from loaders.format.shard_set import ShardSet
from loaders.system.open_files import OpenFilesError, allow_open_files


class Labels(NamedTuple):
    """What a batch's samples hold beside images."""

    pose: NDArray[np.float32]
    """(n, J, 5)."""
    meta: NDArray[np.int32]
    """(n, 4)."""
    rot: Sequence[Bytes]
    """The rot file of each, if they were asked for."""


class MappedSource:
    """Memory-mapped tars, read in any order: one pipeline for all epochs, whose graph is fed with the images."""

    fed = True

    def __init__(self, shard_set: ShardSet, pipelines: Pipelines, *, rot: bool) -> None:
        """Read rot files beside the labels if ``rot`` says so."""
        self.pipeline: Any = None
        self._shard_set = shard_set
        self._reads_rot = rot
        self._pipelines = pipelines

    def start(self, spec: GraphSpec, batches: list[Indices], feed: Feed) -> None:
        """Get ready to load these batches. Raises PipelineError."""
        if self.pipeline is None:
            self.pipeline = self._pipelines.build(random_access_graph, feed, spec)

    def split(self, indices: Indices, outputs: Sequence[Any]) -> tuple[Labels, Sequence[Any]]:
        """Return a batch's labels, and those of the graph's outputs that are images."""
        rot = self._shard_set.read(indices, ROT) if self._reads_rot else ()
        return Labels(self._shard_set.pose(indices), self._shard_set.meta(indices), rot), outputs

    def encoded(self, indices: Indices, member: str) -> list[Bytes]:
        """Return the bytes of a member of each sample."""
        return self._shard_set.read(indices, member)

    def stop(self, *, keep: bool) -> None:
        """Take what is left in the pipeline out of it, so that the next epoch begins empty; or drop it."""
        if not keep:
            self.pipeline = None
        if self.pipeline is None:
            return
        try:
            while True:
                self.pipeline.run()
        except StopIteration:
            self.pipeline.reset()
        except RuntimeError:  # what nobody waits for may be undecodable
            self.pipeline = None

    def close(self) -> None:
        """Free the pipeline and its threads."""
        self.pipeline = None


class SequentialSource:
    """DALI's webdataset reader, which goes through tars on disk or behind s3:// and reads labels and images itself.

    The reader takes samples in the order of its index files, so each epoch gets its own files and its own pipeline:
    batches, ranks and resuming are as exact as with mapped tars. The order should be local: shards, and neighbors
    within them, are shuffled.
    """

    fed = False

    _open: ClassVar[WeakSet[SequentialSource]] = WeakSet()
    """All that were not closed: training and validation read at the same time."""

    def __init__(self, shard_set: ShardSet, members: Sequence[str], pipelines: Pipelines, *, rot: bool) -> None:
        """Check that the tars can be opened and, where they are remote, read. Raises InputError.

        Args:
            shard_set: the split.
            members: images to read.
            pipelines: how to read.
            rot: read rot files beside the labels.
        """
        self.pipeline: Any = None
        self._shard_set = shard_set
        self._members = tuple(members)
        self._labels = (POSE, META, *((ROT,) if rot else ()))
        self._layouts: list[PngLayout] = []
        self._pipelines = pipelines
        self._open.add(self)
        self._allow_open(sum(len(one._shard_set.shards) for one in self._open if one.pipeline is None))
        if shard_set.remote:
            self._check_tars()

    def start(self, spec: GraphSpec, batches: list[Indices], feed: Feed) -> None:
        """Get ready to load these batches. Raises PipelineError."""
        if not batches:
            return
        # the reader delivers whole batches only: short ones are filled up here, and cut again;
        # by one sample, since the reader opens a tar again whenever the order comes back to it
        padded = [np.pad(indices, (0, self._pipelines.batch_size - len(indices)), "edge") for indices in batches]
        self._layouts = [kind.layout for kind in spec.images if kind.layout]
        members = [*self._labels, *self._members]
        self.pipeline = self._build_reader(np.concatenate(padded), members, feed, spec)

    def split(self, indices: Indices, outputs: Sequence[Any]) -> tuple[Labels, Sequence[Any]]:
        """Return a batch's labels, and those of the graph's outputs that are images. Raises PipelineError."""
        pose, meta = (np.asarray(output.as_tensor())[: len(indices)] for output in outputs[:2])
        begin = len(self._labels)
        # of different lengths
        rot = [np.array(outputs[2][row]) for row in range(len(indices))] if ROT in self._labels else ()
        images, headers = outputs[begin : begin + len(self._members)], outputs[begin + len(self._members) :]
        try:
            self._check_headers([np.asarray(header.as_tensor()) for header in headers])
        except ValueError as error:
            raise PipelineError(str(error)) from None
        layouts = self._shard_set.layouts
        return Labels(decode_arrays(pose, layouts[POSE]), decode_arrays(meta, layouts[META]), rot), images

    def _check_headers(self, headers: list[NDArray[Any]]) -> None:
        """Compare what a stream read of images' headers with what they should be. Raises PipelineError."""
        encoded = [member for member in self._members if not member.endswith(".npy")]
        camera = self._shard_set.camera
        for size in headers[: len(encoded)]:
            if (size[:, :2] != (camera.height, camera.width)).any():
                raise PipelineError("an image has another size than the manifest says")
        for layout, begins in zip(self._layouts, headers[len(encoded) :], strict=True):
            # the same few bytes in all of them, as a rule
            if any(png_layout(begin) != layout for begin in np.unique(begins, axis=0)):
                raise PipelineError("a PNG has other pixels than the first one")

    def encoded(self, indices: Indices, member: str) -> list[Bytes]:
        """Read the bytes of a member of each sample. Raises InputError."""
        return self._read(indices, member)

    def stop(self, *, keep: bool) -> None:
        """Drop the pipeline: what it has read ahead belongs to this epoch."""
        self.pipeline = None

    def close(self) -> None:
        """Free the pipeline, its threads and its open files."""
        self._open.discard(self)
        self.pipeline = None

    def _allow_open(self, tars: int) -> None:
        """Make sure that DALI's reader, which keeps all its tars open, may do so. Raises InputError."""
        if "://" in (self._shard_set.remote or ""):
            return
        try:
            allow_open_files(tars)
        except OpenFilesError as error:
            raise InputError(
                f"{self._shard_set.folder}: a stream keeps all its shards open; {error}; or write fewer, larger shards "
                "by --samples-per-shard; or take data.access random, which keeps none open"
            ) from None

    def _check_tars(self) -> None:
        """Read the end of every tar: nothing else shows before the first step that one is missing or cut."""
        ends = np.unique(np.cumsum([shard.samples for shard in self._shard_set.shards]) - 1)
        try:
            self._read(ends, META)
        except InputError:
            for end in ends:
                self._read(np.array([end]), META)
            raise

    def _read(self, indices: Indices, member: str) -> list[Bytes]:
        """Return a member's bytes of some samples, read apart from the epoch. Raises InputError."""
        camera = self._shard_set.camera
        spec = GraphSpec(
            (), camera, self._shard_set.window, 1, moves=False, jitters_color=False, device="cpu", hw_decoder_load=0
        )
        try:
            pipeline = self._build_reader(indices, [member], tuple, spec, len(indices))
            (read,) = self._pipelines.run(pipeline)
        except PipelineError as error:
            tar = self._shard_set.location(int(self._shard_set.shard_of(indices)[0]))
            raise InputError(
                f"{tar} cannot be read ({error}): check the AWS_* environment variables, or copy the shard again"
            ) from None
        return [np.array(data) for data in read]

    def _build_reader(
        self, order: Indices, members: list[str], feed: Feed, spec: GraphSpec, batch_size: int | None = None
    ) -> Any:
        """Return a pipeline whose reader goes through samples in this order. Raises PipelineError or InputError."""
        shards = self._shard_set.shard_of(order)
        first = np.flatnonzero(np.diff(shards, prepend=-1))
        self._allow_open(len(first))
        tars = [self._shard_set.location(shard) for shard in shards[first].tolist()]
        with tempfile.TemporaryDirectory(prefix="stream-") as folder:
            indices = [f"{folder}/{number}.idx" for number in range(len(tars))]
            for path, samples in zip(indices, np.split(order, first[1:]), strict=True):
                write_index(Path(path), self._shard_set.entries(samples, members))
            reader = {"tars": tars, "indices": indices, "members": members, "prefetch": self._pipelines.prefetch}
            return self._pipelines.build(sequential_graph, feed, spec, batch_size=batch_size, **reader)
