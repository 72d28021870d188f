"""The streaming feed: DALI's webdataset reader goes through the tars, in the order our own index files give it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final
from weakref import WeakSet

import numpy as np
from torch.utils.dlpack import from_dlpack

from loaders.augment import Augmentation
from loaders.base import Indices
from loaders.batch import PoseBatch
from loaders.codecs import Bytes
from loaders.dali.graph import GraphSpec, Tars, streamed_graph
from loaders.dali.loader import DaliLoader, Fed, PipelineError
from loaders.errors import InputError
from loaders.format.index import write_index
from loaders.format.sample import META, META_SHAPE, POSE, POSE_SHAPE
from loaders.system.open_files import OpenFilesError, allow_open_files

_LABELS: Final = (POSE, META)


class StreamLoader(DaliLoader):
    """Images and labels through one DALI pipeline whose reader goes through tars, on disk or behind s3://.

    The reader takes samples in the order of its index files, so each epoch gets its own: batches, ranks and resuming
    are as exact as with mapped tars. The order itself is local: shards, and neighbors within them, are shuffled.
    """

    _open: ClassVar[WeakSet[StreamLoader]] = WeakSet()
    """All that were not closed: training and validation read at the same time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open.add(self)
        self._allow_open(sum(len(one.shard_set.shards) for one in self._open if one._pipeline is None))
        if self.shard_set.remote:
            self._check_tars()

    def close(self) -> None:
        """Free the pipeline, its threads and the mappings."""
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
            self._fetch(ends, META)
        except InputError:
            for end in ends:
                self._fetch(np.array([end]), META)
            raise

    def _begin(self, batches: list[Indices]) -> None:
        self._upcoming = iter(batches)
        if not batches:
            return
        # the reader hands out whole batches only: short ones are filled up here, and cut again
        size = self._at_once * self.config.batch_size
        # by one sample, since the reader opens a tar again whenever the order comes back to it
        order = np.concatenate([np.pad(indices, (0, size - len(indices)), "edge") for indices in batches])
        with self._tars(order, tuple(self._members.values()), _LABELS) as tars:
            self._pipeline = self._build(streamed_graph, self._next_inputs, self._spec, tars)

    def _end(self) -> None:
        # what it has read ahead belongs to this epoch
        self._pipeline = None
        super()._end()

    def _next_batch(self) -> PoseBatch:
        if not self._spec.takes_matrices:
            self._next_inputs()  # DALI asks for none
        return super()._next_batch()

    def _image_inputs(self, indices: Indices) -> list[Any]:
        return []

    def _matrices(self, augmentation: Augmentation | None) -> list[Any]:
        size = self._at_once * self.config.batch_size
        return [np.resize(matrix, (size, *matrix.shape[1:])) for matrix in super()._matrices(augmentation)]

    def _split(self, fed: Fed, outputs: Sequence[Any]) -> tuple[PoseBatch, Sequence[Any]]:
        n = len(fed.indices)
        pose, meta = (from_dlpack(output.as_tensor()).numpy()[:n] for output in outputs[:2])
        labels = self._label_batch(
            _tail(pose, "<f4", POSE_SHAPE), _tail(meta, "<i4", META_SHAPE), fed.indices, fed.augmentation
        )
        images, sizes = outputs[2 : 2 + len(self._members)], outputs[2 + len(self._members) :]
        camera = self.shard_set.camera
        for size in sizes:
            if (from_dlpack(size.as_tensor()).numpy()[:, :2] != (camera.height, camera.width)).any():
                raise PipelineError("an image has another size than the manifest says")
        return labels, images

    def _find_bad(self, reason: str) -> None:
        while len(self._fed) <= self.config.prefetch and (indices := next(self._upcoming, None)) is not None:
            self._fed.append(Fed(indices, None, []))
        super()._find_bad(reason)

    def _encoded(self, index: int, member: str) -> Bytes:
        return self._fetch(np.array([index]), member)[0]

    def _fetch(self, indices: Indices, member: str) -> list[Bytes]:
        """Return a member's bytes of some samples, read apart from the epoch. Raises InputError."""
        camera = self.shard_set.camera
        spec = GraphSpec((), camera, 1, moves=False, jitters_color=False, device="cpu", hw_decoder_load=0)
        try:
            with self._tars(indices, (), (member,)) as tars:
                pipeline = self._build(streamed_graph, tuple, spec, tars, batch_size=len(indices))
            (read,) = self._run(pipeline)
        except PipelineError as error:
            tar = self.shard_set.location(int(self.shard_set.shard_of(indices)[0]))
            raise InputError(
                f"{tar} cannot be read ({error}): see to the AWS_* environment variables, or copy the shard again"
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
            yield Tars(paths, names, images, labels, self.config.prefetch)


def _tail(files: Bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    """Return the arrays (n, *shape) of .npy files (n, bytes)."""
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    return np.ascontiguousarray(files[:, -size:]).view(dtype).reshape(-1, *shape)
