"""What a loader yields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.camera import UNSEEN

Output = Literal["image", "worldp", "depth", "object_id", "rot"]
"""What a batch holds if it is asked for."""


@dataclass(frozen=True)
class PoseBatch:
    """B samples. Pixels have their centers at integers; J joints are in the order of the shard set's skeleton.

    Where samples are windows of T frames, T is the second dimension of everything: ``image`` is (B, T, 3, H, W).
    """

    joints_2d: Tensor
    """(B, J, 2) float32, pixels of ``image``."""
    joints_3d: Tensor
    """(B, J, 3) float32, metres, camera frame, the root subtracted."""
    visible: Tensor
    """(B, J) uint8: `models.camera.UNSEEN`, `IN_LENS` or `IN_IMAGE`, with ``image`` as it is augmented."""
    meta: Tensor
    """(B, 4) int32: subject, environment, frame, action."""
    index: Tensor
    """(B,) int64, position in the split."""
    image: Tensor | None = None
    """(B, 3, H, W) uint8, channels_last; with dtype float32 contiguous, -1 to 1."""
    worldp: Tensor | None = None
    """(B, C, H, W) uint8 or uint16, channels_last, values as the dataset has them: the pixels' world positions, where C
    is 3."""
    depth: Tensor | None = None
    """(B, C, H, W) like ``worldp``: the pixels' depth; C is 1 if it is gray."""
    object_id: Tensor | None = None
    """(B, C, H, W) like ``worldp``: which object a pixel belongs to."""
    rot: Tensor | None = None
    """(B, J, 3) float32, degrees: the joints' rotations in the world, as the dataset has them; NaN where it has
    none."""

    @classmethod
    def without_labels(
        cls, shape: Sequence[int], joints: int, device: torch.device | None = None, image: Tensor | None = None
    ) -> PoseBatch:
        """Return a batch whose labels are NaN, and no joint seen; ``shape`` is (B,), or (B, T) of windows.

        ``joints`` is how many a pose has.
        """

        def filled(value: float, dtype: torch.dtype, *more: int) -> Tensor:
            return torch.full((*shape, *more), value, dtype=dtype, device=device)

        return cls(
            joints_2d=filled(torch.nan, torch.float32, joints, 2),
            joints_3d=filled(torch.nan, torch.float32, joints, 3),
            visible=filled(UNSEEN, torch.uint8, joints),
            meta=filled(0, torch.int32, 4),
            index=filled(0, torch.int64),
            image=image,
        )

    def __len__(self) -> int:
        """Return B."""
        return len(self.index)

    def to(self, device: torch.device) -> PoseBatch:
        """Return the batch on ``device``; host memory is pinned first where that lets the copy overlap."""
        return self.map(lambda tensor: _move(tensor, device))

    def map(self, function: Callable[[Tensor], Tensor]) -> PoseBatch:
        """Return the batch of what a function makes of each tensor."""
        return PoseBatch(**{name: function(tensor) for name, tensor in self._tensors().items()})

    def copy_(self, other: PoseBatch) -> None:
        """Copy the tensors of a batch of the same shapes into this one's memory."""
        for name, tensor in self._tensors().items():
            tensor.copy_(getattr(other, name), non_blocking=True)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Tell torch's allocator that a stream uses the batch; see `torch.Tensor.record_stream`."""
        for tensor in self._tensors().values():
            tensor.record_stream(stream)

    def split(self, sizes: Sequence[int]) -> list[PoseBatch]:
        """Return the samples in batches of the given sizes, without copying."""
        pieces = {name: tensor.split(list(sizes)) for name, tensor in self._tensors().items()}
        return [PoseBatch(**{name: parts[i] for name, parts in pieces.items()}) for i in range(len(sizes))]

    @property
    def frames(self) -> int:
        """How many frames there are: B, or B times T."""
        return self.index.numel()

    @property
    def predicted(self) -> PoseBatch:
        """The batch of the frames that are to be predicted: the last one of each window."""
        return self if self.index.ndim == 1 else self.map(lambda tensor: tensor[:, -1])

    def in_windows(self, length: int) -> PoseBatch:
        """Return the batch of the windows that so many neighbors each make up, without copying."""
        return self.map(lambda tensor: tensor.unflatten(0, (len(self) // length, length)))

    def as_frames(self) -> PoseBatch:
        """Return the batch of all frames, without copying."""
        return self if self.index.ndim == 1 else self.map(lambda tensor: tensor.flatten(0, 1))

    def _tensors(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    if tensor.device == device:
        return tensor
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
