"""What all loaders share: order, state, labels and skipped samples. Subclasses add images."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loaders.augment import Augmentation, AugmentConfig, draw
from loaders.batch import PoseBatch
from loaders.config import DataConfig
from loaders.epoch_order import epoch_order, rank_batches, shard_order
from loaders.errors import InputError
from loaders.format.sample import META, POSE, ROT
from loaders.format.shard_set import ShardSet, output_members
from loaders.stage_times import Crew, StageTimes
from loaders.system.threads import run_ahead
from loaders.windows import find_windows

logger = logging.getLogger(__name__)

Indices = NDArray[np.int64]
_LARGEST_ASYMMETRY: Final = 0.5
"""What a rotated image may be off without a word (pixels)."""
READ_AHEAD: Final = 2
"""Batches, or blocks of them, whose samples are read from the disk before they are decoded."""
Blocks = Generator[list[PoseBatch], None, None]
"""Batches, some at a time."""


class Loader(ABC):
    """Yields the batches of one split, for one rank; a thread makes them ahead.

    Training shuffles with the seed, augments, and drops the last partial global batch; each iteration is an epoch,
    after the last one's. Evaluation takes the samples in order, each exactly once. One iteration runs at a time:
    another one ends it.

    A sample is a frame, or a window of frames (`DataConfig.window`). Subclasses know frames alone: batches of windows
    are cut out of theirs.
    """

    def __init__(
        self,
        shard_set: ShardSet,
        config: DataConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        training: bool = False,
        outputs: Sequence[str] = ("image",),
        dtype: str = "uint8",
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not below the world size {world_size}")
        self.shard_set = shard_set
        self.config = config
        self.rank = rank
        self.world_size = world_size
        self.device = torch.device(device)
        self.training = training
        self.dtype = dtype
        self.augment = config.augment if training else AugmentConfig()
        self.image_size = config.image_size or shard_set.window[2]
        self.camera = shard_set.seen_camera(self.image_size)
        """The camera of the loaded images, before augmentation."""
        self.skeleton = shard_set.manifest.skeleton
        """What the joints of a pose are."""
        self._check_augmentation()
        self.skipped: dict[int, str] = {}
        """Samples skipped because they cannot be decoded: position in the split -> shard, key, member, offset."""
        self.windows = find_windows(shard_set.keys, config.window, config.stride)
        """(samples, T) positions in the split of each sample's frames."""
        self.batch_frames = config.batch_size * config.window
        """Frames in a batch of one process."""
        self.global_batch = config.batch_size * world_size
        """Samples in a batch over all ranks."""
        self.batches_per_epoch = len(self.windows) // self.global_batch
        """Batches that a whole training epoch gives each rank."""
        self.epoch = 0
        """The epoch that the next batch belongs to."""
        self._consumed = 0
        """Samples of the epoch that were delivered, over all ranks; not those that are only ready."""
        self.fetches_ahead = True
        """Whether a thread of its own takes batches out of `_load`, one block ahead."""
        self._running: Blocks | None = None
        """The iteration's blocks."""
        if not len(self.windows):
            raise InputError(
                f"{shard_set.folder} has {len(shard_set)} frames and no window of {self._window_name}: lower "
                "data.window or data.stride"
            )
        if training and len(self.windows) < self.global_batch:
            raise InputError(
                f"{shard_set.folder} has {len(self.windows)} samples, fewer than one batch of {self.global_batch} "
                f"({config.batch_size} x {world_size} processes): lower data.batch_size"
            )
        self.outputs = tuple(outputs)
        self.members = output_members(shard_set, outputs)
        """The tar member of each output that is an image."""
        self.reads_rot = self.members.pop("rot", None) is not None
        """Whether batches hold rotations."""
        if self.reads_rot and self.augment.horizontal_flip > 0:
            raise InputError(
                "rotations are of the world, which data.augment.horizontal_flip turns into its mirror image: "
                "set it to 0, or leave rot out of the outputs"
            )
        self.encoded = tuple(member for member in self.members.values() if not member.endswith(".npy"))
        """Of these, the ones that are JPEG or PNG; the others are images as they are."""
        self.stage_times = StageTimes(self._crews())
        """What its threads spend their time on."""

    @property
    def progress(self) -> float:
        """Epochs completed, with the share of the current one (epochs)."""
        return self.epoch + min(1.0, self._consumed / max(1, self.batches_per_epoch * self.global_batch))

    def __len__(self) -> int:
        """Return the number of batches that the next iteration delivers; fewer if a whole batch is skipped."""
        left = len(self.windows) - self._consumed
        if self.training:
            return left // self.global_batch
        return max(0, -(-(left - self.rank * self.config.batch_size) // self.global_batch))

    def __iter__(self) -> Iterator[PoseBatch]:
        """Yield the batches of this rank to the end of the epoch, or of the split."""
        plan = rank_batches(
            self._order(),
            self._consumed,
            self.config.batch_size,
            rank=self.rank,
            world_size=self.world_size,
            drop_last=self.training,
        )
        self._end_iteration()
        blocks = self._fetch([self.windows[samples].reshape(-1) for samples in plan])
        if self.fetches_ahead:
            blocks = run_ahead(blocks, 1, "fetch", self.stage_times.asked)
        self._running = blocks
        with contextlib.closing(blocks):
            for batch in itertools.chain.from_iterable(blocks):
                if self._running is not blocks:
                    return
                # counted before it is yielded, so that a state taken after this batch does not repeat it
                self._consumed = min(self._consumed + self.global_batch, len(self.windows))
                if len(batch):
                    self.stage_times.handed_over()
                    self._hand_over(batch)
                    yield batch if self.config.window == 1 else batch.in_windows(self.config.window)
        if self._running is blocks:
            self._running = None
            self.epoch += self.training
            self._consumed = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; the current epoch goes on where it is."""
        if epoch != self.epoch:
            self.epoch, self._consumed = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the training. It does not depend on the number of ranks or the batch size."""
        return {
            "seed": self.config.seed,
            "epoch": self.epoch,
            "consumed": self._consumed,
            "fingerprint": self.shard_set.fingerprint,
            "order": self._order_name,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken. Raises InputError for another shard set, seed or order."""
        if state["fingerprint"] != self.shard_set.fingerprint:
            raise InputError(
                f"the run was trained on shards {state['fingerprint']}, {self.shard_set.folder} holds "
                f"{self.shard_set.fingerprint}: give the same shard set, or start a new run"
            )
        if state["seed"] != self.config.seed:
            raise InputError(f"data.seed is {self.config.seed}, the run began with {state['seed']}: keep it to resume")
        if state["order"] != self._order_name:
            raise InputError(
                f"the run's order was {state['order']}, now it would be {self._order_name}: a position in one is "
                "none in the other, so keep data.access, data.shuffle_window, data.window and data.stride to resume"
            )
        self.epoch, self._consumed = state["epoch"], state["consumed"]

    def close(self) -> None:
        """Free threads, pipelines and mappings."""
        self._end_iteration()
        self.shard_set.close()

    @abstractmethod
    def _load(self, plan: list[Indices]) -> Blocks:
        """Yield one batch per element of ``plan``, an array of positions in the split; empty if all are skipped.

        On CUDA it runs in a thread of its own, whose current stream is one of its own as well. Where no thread fetches
        ahead it tells `stage_times` whether batches are ready.
        """

    def _crews(self) -> tuple[Crew, ...]:
        """Return which threads work at which stages."""
        return (Crew(("labels", "copy")),)

    def _fetch(self, plan: list[Indices]) -> Blocks:
        """Yield what `_load` does, completed: nothing is still being copied."""
        if self._stream is None:
            yield from self._load(plan)
            return
        # this thread is ours: nothing has to be restored
        torch.cuda.set_stream(self._stream)
        for block in self._load(plan):
            # only this thread waits; then host memory that was copied from is free, and any stream may use the batches
            with self.stage_times.timed("copy"):
                self._stream.synchronize()
            yield block

    def _on_device(self, batch: PoseBatch) -> PoseBatch:
        """Return a batch on the device."""
        with self.stage_times.timed("copy"):
            return batch.to(self.device)

    @functools.cached_property
    def _stream(self) -> torch.cuda.Stream | None:
        """Where batches are copied to the device; one for all epochs, since torch keeps freed memory by stream."""
        return torch.cuda.Stream(self.device) if self.device.type == "cuda" and torch.cuda.is_available() else None

    def _hand_over(self, batch: PoseBatch) -> None:
        """Tell torch that the caller's stream uses memory of ours: freed, it is not handed out before that is done."""
        if self._stream is not None:
            batch.record_stream(torch.cuda.current_stream(self.device))

    def _read_ahead(self, indices: Indices) -> None:
        """Have samples read from the disk, but raw images: threads copy them, and labels, without Python's lock.

        Asking for them first would take a tenth of the rate.
        """
        if self.encoded:
            rot = (ROT,) if self.reads_rot else ()
            self.shard_set.read_ahead(indices, (*self.encoded, *rot, POSE, META))

    def _end_iteration(self) -> None:
        """End the thread of the iteration that runs, if one does."""
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def _check_augmentation(self) -> None:
        """Raise InputError for an augmentation that the skeleton does not allow; say what the camera makes inexact."""
        if self.augment.horizontal_flip > 0 and not self.skeleton.mirror_pairs:
            raise InputError(
                f"{self.shard_set.folder}: its skeleton names no left and right joints, which data.augment."
                "horizontal_flip exchanges: set that to 0, or name its mirror_pairs and run tools.shard again"
            )
        if self.augment.moves and self.rank == 0 and (off := self.camera.asymmetry()) > _LARGEST_ASYMMETRY:
            logger.warning(
                "tangential distortion of the camera: a rotated or flipped image is up to %.1f px off the pose that it "
                "shows; undistort the images, or set data.augment.rotation and horizontal_flip to 0",
                off,
            )

    @property
    def left_out(self) -> str:
        """How many frames end no window, as a sentence; empty if all do."""
        frames = len(self.shard_set)
        lost = frames - len(self.windows)
        return f"{lost} of {frames} frames end no window of {self._window_name}" if lost else ""

    @property
    def _window_name(self) -> str:
        return f"{self.config.window} frames, {self.config.stride} apart"

    @property
    def _order_name(self) -> str:
        if self.config.access == "sequential":
            return f"by shards, shuffled within {self.config.shuffle_window} neighbors"
        return "a global shuffle" + (f" of windows of {self._window_name}" if self.config.window > 1 else "")

    def _order(self) -> Indices:
        """Return the samples of the current epoch, in its order."""
        if not self.training:
            return np.arange(len(self.windows))
        if self.config.access == "sequential":
            sizes = [shard.samples for shard in self.shard_set.shards]
            return shard_order(self.config.seed, self.epoch, sizes, self.config.shuffle_window)
        return epoch_order(self.config.seed, self.epoch, len(self.windows))

    def _reject(self, index: int, member: str, fault: str) -> None:
        """Skip a sample from now on. Raises InputError if the run is to fail instead."""
        where = self.shard_set.describe(index, member)
        if self.config.on_bad_sample == "fail":
            raise InputError(
                f"{where} {fault}: copy the shard again, go on without such samples by --data.on-bad-sample skip, or "
                "run tools.verify --deep to find them all"
            )
        self.skipped[index] = f"{where} {fault}"

    def _usable(self, indices: Indices) -> Indices:
        """Return a batch's frames without skipped samples: in training others take their places, else it is shorter."""
        if not self.skipped:
            return indices
        windows = indices.reshape(-1, self.config.window)
        skipped = np.isin(windows, list(self.skipped))
        bad = skipped.any(1)
        if not bad.any():
            return indices
        good = windows[~bad]
        if not self.training:
            return good.reshape(-1)
        if not len(good):
            first = self.skipped[int(windows[skipped][0])]
            raise InputError(f"no sample of a batch can be decoded, the first is {first}")
        filled = windows.copy()
        filled[bad] = np.resize(good, (bad.sum(), self.config.window))
        return filled.reshape(-1)

    def _draw(self, indices: Indices) -> Augmentation | None:
        if self.augment.moves or self.augment.jitters_color:
            # all frames of a window have the camera on the same head, in the same light
            samples = indices[self.config.window - 1 :: self.config.window].repeat(self.config.window)
            return draw(self.augment, self.config.seed, self.epoch, samples)
        return None

    def _labels(self, indices: Indices, augmentation: Augmentation | None) -> PoseBatch:
        """Return the labels of ``indices`` in host memory."""
        return self._label_batch(self.shard_set.pose(indices), self.shard_set.meta(indices), indices, augmentation)

    def _label_batch(
        self, pose: NDArray[np.float32], meta: NDArray[np.int32], indices: Indices, augmentation: Augmentation | None
    ) -> PoseBatch:
        joints_2d = self.shard_set.camera.transfer(pose[..., :2], self.camera).astype(np.float32)
        points = pose[..., 2:]
        if augmentation is not None:
            joints_2d, points = augmentation.move_joints(joints_2d, points, self.camera, self.skeleton)
        visible, root = self.camera.visibility(joints_2d, points), self.skeleton.root
        return PoseBatch(
            joints_2d=torch.from_numpy(joints_2d),
            joints_3d=torch.from_numpy(points - points[:, root : root + 1]),
            visible=torch.from_numpy(visible),
            meta=torch.from_numpy(meta),
            index=torch.from_numpy(np.ascontiguousarray(indices)),
        )


def channels_first(images: Tensor) -> Tensor:
    """Return images (B, H, W, C), or (B, C, H, W) if they are floats, as (B, C, H, W), without copying."""
    return images if images.is_floating_point() else images.permute(0, 3, 1, 2)
