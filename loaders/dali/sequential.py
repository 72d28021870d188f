"""Sequential access: DALI's own webdataset reader goes through the tars, on disk or behind s3://."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import numpy as np
from torch.utils.dlpack import from_dlpack

from loaders.base import Indices
from loaders.codecs import Bytes
from loaders.dali.graph import Feed, GraphSpec, sequential_graph
from loaders.dali.loader import DaliLoader, Labels, PipelineError
from loaders.errors import InputError
from loaders.format.index import write_index
from loaders.format.sample import META, META_SHAPE, POSE, POSE_SHAPE, decode_arrays
from loaders.system.open_files import OpenFilesError, allow_open_files


class SequentialDaliLoader(DaliLoader):
    """Images and labels through DALI's webdataset reader.

    The reader takes samples in the order of its index files, so each epoch gets its own files and its own pipeline:
    batches, ranks and resuming are as exact as with mapped tars. The order should be local: shards, and neighbors
    within them, are shuffled.
    """

    _takes_images = False

    _open: ClassVar[WeakSet[SequentialDaliLoader]] = WeakSet()
    """All that were not closed: training and validation read at the same time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Check that the tars can be opened and, where they are remote, read. Raises InputError."""
        super().__init__(*args, **kwargs)
        self._open.add(self)
        self._allow_open(sum(len(one.shard_set.shards) for one in self._open if one._pipeline is None))
        if self.shard_set.remote:
            self._check_tars()

    def close(self) -> None:
        """Free the pipeline, its threads and its open files."""
        self._open.discard(self)
        super().close()

    def _start(self, batches: list[Indices]) -> None:
        if not batches:
            return
        # the reader delivers whole batches only: short ones are filled up here, and cut again;
        # by one sample, since the reader opens a tar again whenever the order comes back to it
        padded = [np.pad(indices, (0, self._block_size - len(indices)), "edge") for indices in batches]
        members = [POSE, META, *self.members.values()]
        self._pipeline = self._build_reader(np.concatenate(padded), members, self._feed, self._spec)

    def _split(self, indices: Indices, outputs: Sequence[Any]) -> tuple[Labels, Sequence[Any]]:
        pose, meta = (from_dlpack(output.as_tensor()).numpy()[: len(indices)] for output in outputs[:2])
        images, sizes = outputs[2 : 2 + len(self.members)], outputs[2 + len(self.members) :]
        camera = self.shard_set.camera
        for size in sizes:
            if (from_dlpack(size.as_tensor()).numpy()[:, :2] != (camera.height, camera.width)).any():
                raise PipelineError("an image has another size than the manifest says")
        return (decode_arrays(pose, "<f4", POSE_SHAPE), decode_arrays(meta, "<i4", META_SHAPE)), images

    def _encoded(self, index: int, member: str) -> Bytes:
        return self._read(np.array([index]), member)[0]

    def _stop(self) -> None:
        self._pipeline = None  # what it has read ahead belongs to this epoch

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
            pipeline = self._build_reader(indices, [member], tuple, spec, len(indices))
            (read,) = self._run(pipeline)
        except PipelineError as error:
            tar = self.shard_set.location(int(self.shard_set.shard_of(indices)[0]))
            raise InputError(
                f"{tar} cannot be read ({error}): check the AWS_* environment variables, or copy the shard again"
            ) from None
        return [np.array(data) for data in read]

    def _build_reader(
        self, order: Indices, members: list[str], feed: Feed, spec: GraphSpec, batch_size: int | None = None
    ) -> Any:
        """Return a pipeline whose reader goes through samples in this order. Raises PipelineError or InputError."""
        shards = self.shard_set.shard_of(order)
        first = np.flatnonzero(np.diff(shards, prepend=-1))
        self._allow_open(len(first))
        tars = [self.shard_set.location(shard) for shard in shards[first].tolist()]
        with tempfile.TemporaryDirectory(prefix="stream-") as folder:
            indices = [f"{folder}/{number}.idx" for number in range(len(tars))]
            for path, samples in zip(indices, np.split(order, first[1:]), strict=True):
                write_index(Path(path), self.shard_set.entries(samples, members))
            reader = {"tars": tars, "indices": indices, "members": members, "prefetch": self.config.prefetch}
            return self._build(sequential_graph, feed, spec, batch_size=batch_size, **reader)
