"""The DALI loader: our order, labels and augmentation; DALI's decoding, warping and colouring."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.dlpack import from_dlpack

from loaders.augment import Augmentation
from loaders.base import Indices, Loader
from loaders.batch import PoseBatch
from loaders.dali_graph import GraphSpec, Picture, dali_matrices, picture_graph
from loaders.errors import InputError
from loaders.pictures import find_undecodable, picture_data, picture_members, png_bits


@dataclass(frozen=True)
class _Fed:
    """A batch on its way through the graph."""

    indices: Indices
    augmentation: Augmentation | None
    inputs: tuple[Any, ...]


class DaliLoader(Loader):
    """Pictures through one DALI pipeline, on the CPU or on a GPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.config
        self._members = picture_members(self.shard_set, config.outputs)
        gpu = self.device.type == "cuda"
        self._spec = GraphSpec(
            pictures=tuple(self._picture(output, member) for output, member in self._members.items()),
            stored=self.shard_set.camera,
            image_size=self.image_size,
            moves=self.augment.moves,
            recolours=self.augment.recolours,
            device="gpu" if gpu else "cpu",
            hw_decoder_load=config.hw_decoder_load,
        )
        self._plan: Iterator[Indices] = iter(())
        self._fed: deque[_Fed] = deque()
        # a GPU may still read the inputs of the batch it just handed out
        self._recent: deque[_Fed] = deque(maxlen=config.prefetch)
        self._pipeline: Any = picture_graph(
            self._next_inputs,
            self._spec,
            batch_size=config.batch_size,
            num_threads=config.thread_count(),
            device_id=(self.device.index or 0) if gpu else None,
            prefetch_queue_depth=config.prefetch,
        )
        self._pipeline.build()

    def close(self) -> None:
        """Free the pipeline, its threads and the mappings."""
        self._pipeline = None
        self._fed.clear()
        self._recent.clear()
        super().close()

    def _picture(self, output: str, member: str) -> Picture:
        if output == "worldp":
            return Picture(encoded=True, bits=png_bits(self.shard_set.member(0, member)), smooth=False)
        return Picture(encoded=not member.endswith(".npy"))

    def _load(self, plan: list[Indices]) -> Iterator[PoseBatch]:
        self._plan = iter(plan)
        try:
            for _ in plan:
                outputs = self._run()
                fed = self._fed.popleft()
                self._recent.append(fed)
                labels = self._labels(fed.indices, fed.augmentation).to(self.device)
                pictures = [from_dlpack(output.as_tensor()).permute(0, 3, 1, 2) for output in outputs]
                yield PoseBatch(**{**vars(labels), **dict(zip(self._members, pictures, strict=True))})
        finally:
            self._plan = iter(())
            self._drain()

    def _run(self) -> Any:
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        try:
            return self._pipeline.run(stream)
        except RuntimeError as error:
            for fed in self._fed:
                find_undecodable(self.shard_set, fed.indices, self._members.values())
            raise InputError(f"DALI failed: {str(error).strip().splitlines()[0]}") from error

    def _drain(self) -> None:
        """Take what is left in the pipeline out of it, so that the next epoch begins empty."""
        if self._pipeline is None:
            return
        try:
            while True:
                self._pipeline.run()
        except StopIteration:
            self._pipeline.reset()
        except RuntimeError:
            # a failed pipeline holds nothing; the error itself is already on its way
            pass
        self._fed.clear()

    def _next_inputs(self) -> tuple[Any, ...]:
        indices = next(self._plan)
        augmentation = self._draw(indices)
        inputs: list[Any] = [picture_data(self.shard_set, indices, member) for member in self._members.values()]
        if augmentation is not None and self._spec.moves:
            inputs.append(dali_matrices(augmentation.warp(self.camera)))
        if augmentation is not None and self._spec.recolours:
            inputs.append(augmentation.colour)
        self._fed.append(_Fed(indices, augmentation, tuple(inputs)))
        return tuple(inputs)
