"""A trained network as a function from images to poses, for programs and for `engine.infer`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from engine.inference.unlabeled import check_finite, check_takes_images, drop_reconstruction, unlabeled
from engine.inference.view import Rotation, View
from engine.inference.windows import FrameWindows
from engine.loaded_model import LoadedModel
from engine.precision import Precision
from loaders.codecs import Image
from loaders.errors import InputError
from loaders.preprocessing import resize
from models.camera import IN_IMAGE, UNSEEN
from models.head import HeadPosition
from models.heatmaps import decode_heatmaps


@dataclass(frozen=True)
class Poses:
    """What the network predicts for n images."""

    joints_3d: NDArray[np.float32]
    """(n, J, 3): metres relative to the root, in the order of `PoseModel.skeleton`; x to the right of the image, y
    down, z along the camera's axis."""
    joints_2d: NDArray[np.float32]
    """(n, K, 2): the heatmaps' peaks in pixels of the image, centers at integers, of the skeleton's ``heatmap_joints``.
    Without heatmaps they are ``projected_2d`` of these, and NaN where that is NaN or None."""
    confidence: NDArray[np.float32]
    """(n, K): heights of the heatmaps' peaks; about 1 where the network is sure, about 0 where it finds nothing. NaN
    without heatmaps."""
    joints_3d_camera: NDArray[np.float32] | None = None
    """(n, J, 3): as ``joints_3d``, but in the camera frame: the head is placed where it was in the training split.
    None, as are the next two, if the checkpoint does not say where that is."""
    projected_2d: NDArray[np.float32] | None = None
    """(n, J, 2): where the dataset's camera sees ``joints_3d_camera``, in pixels of the image; NaN where its lens does
    not show them."""
    distance: NDArray[np.float32] | None = None
    """(n, K): from the heatmaps' peaks to the projected joints, in pixels of the image: large where the network's two
    answers contradict each other. NaN where a joint is projected beyond what the network sees, and has no peak, and
    without heatmaps."""

    def __len__(self) -> int:
        """Return n."""
        return len(self.joints_3d)


class PoseModel:
    """A function from images to poses, see `__call__`."""

    def __init__(self, loaded: LoadedModel, precision: Precision) -> None:
        """Take over a network. Raises InputError for one that does not go from images, and nothing else, to poses.

        The layers that only its loss needs are deleted.
        """
        check_takes_images(loaded)
        if loaded.stage.metric == "error_px":
            _refuse(loaded)
        drop_reconstruction(loaded.stage, loaded.model)
        self.image_size = loaded.stage.image_size
        """Side of the network's image (pixels)."""
        self.skeleton = loaded.skeleton
        """What the joints are."""
        self.preprocessing = loaded.preprocessing
        """What was done to the training images; None if it is not known."""
        self.head = loaded.head
        """Where the head was in the camera frame of the training split; None if it is not known."""
        self.window, self.stride = loaded.window
        """Frames that the network sees to predict the last of them, and how far they are apart (frames)."""
        self._crop = loaded.crop
        self._frame = loaded.camera
        self._camera = self._frame.cropped(self._crop, self.image_size)
        self._loaded = loaded
        self._precision = precision
        self._checked = False
        """Whether the poses of a batch were found to be finite."""

    def __call__(self, images: NDArray[np.uint8] | Sequence[Image], *, rotate: Rotation = 0) -> Poses:
        """Return the poses of n images.

        A network that sees windows takes them for consecutive frames of one recording, of which the first is the first
        of this call.

        Args:
            images: (n, H, W, 3) uint8 RGB, or n images (H, W, 3) of different sizes. They are taken for the dataset's
                frames, or their center squares, of whatever size; what counts is the crop that the network was trained
                on. Squares of the size that shards stored are taken for that crop itself.
            rotate: rotate the images clockwise first, for cameras that are mounted otherwise (degrees). Results are
                rotated back to the images as they were given.
        """
        for image in images:
            check_image(image)
        views = [self.view(image, rotate) for image in images]
        return self.predict([self.preprocess(v.cut(image)) for v, image in zip(views, images, strict=True)], views)

    def view(self, image: Image, rotate: Rotation = 0) -> View:
        """Return how an image (H, W, 3) becomes the network's square."""
        stored = self.preprocessing if self.preprocessing and self.preprocessing.format != "source" else None
        return View(
            image.shape[1], image.shape[0], rotate, self._crop, stored.image_size if stored else None, self._frame
        )

    def head_of(self, rotate: Rotation) -> HeadPosition | None:
        """Return where the head is in the camera frame of images that are rotated clockwise first (degrees)."""
        if self.head is None:
            return None
        view = View(1, 1, rotate)
        mean, spread = (view.to_camera(np.array(values)).tolist() for values in (self.head.mean, self.head.spread))
        return dataclasses.replace(self.head, mean=tuple(mean), spread=tuple(map(abs, spread)))

    def preprocess(self, square: Image) -> Image:
        """Return a square (side, side, 3) as the network takes it: stored and loaded like its training images."""
        return resize(self.preprocessing.as_stored(square) if self.preprocessing else square, self.image_size)

    def windows(self) -> FrameWindows:
        """Return what finds the windows of frames for `begin`, before the first frame."""
        return FrameWindows(self.window, self.stride)

    def predict(self, squares: Sequence[Image], views: Sequence[View]) -> Poses:
        """Return the poses of n images, given the squares that `View.cut` and `preprocess` made of them.

        A network that sees windows takes them for consecutive frames of one recording.
        """
        return self.begin(*self.windows().add(squares, [""] * len(squares)), views)()

    @torch.inference_mode()
    def begin(
        self,
        frames: Sequence[Image],
        windows: NDArray[np.int64],
        views: Sequence[View],
        smooth: Callable[[Sequence[NDArray[np.floating[Any]]]], Sequence[NDArray[np.floating[Any]]]] | None = None,
    ) -> Callable[[], Poses]:
        """As `predict`, but return a function that waits for the device and returns the poses.

        Args:
            frames: (S, S, 3), squares, each once.
            windows: (n, T), which of them each window holds, see `FrameWindows.add`; without windows, T is 1.
            views: n, of the windows' last frames.
            smooth: is given joints_3d (n, J, 3) and, where there are heatmaps, the peaks (n, K, 2) in sides of the
                network's image, once that function is called, and returns what takes their place.

        Raises InputError, as that function does, if the network's first prediction shows that its stage cannot be used.
        """
        if not views:
            empty = self._as_given([], np.empty((0, len(self.skeleton), 3), np.float32))
            return lambda: empty
        device = self._precision.device
        on_gpu = device.type == "cuda"
        stacked = torch.empty((len(frames), *frames[0].shape), dtype=torch.uint8, pin_memory=on_gpu)
        np.stack(frames, out=stacked.numpy())
        image = stacked.to(device, non_blocking=True)
        if self._loaded.stage.sees_windows:
            index = torch.from_numpy(windows)
            image = image[(index.pin_memory() if on_gpu else index).to(device, non_blocking=True)]
        # (..., H, W, 3) seen as (..., 3, H, W) is channels_last already
        batch = unlabeled(image.movedim(-1, -3), len(self.skeleton))
        with self._precision.autocast():
            prediction = self._loaded.stage.run_to_predict(self._loaded.model, batch)
        if prediction.joints_3d is None:
            _refuse(self._loaded)
        outputs = [prediction.joints_3d.float()]
        if prediction.heatmap is not None:
            outputs += decode_heatmaps(prediction.heatmap, self.image_size)
        # a copy to the host that is not waited for goes into pinned memory
        found = [tensor.to("cpu", non_blocking=True) for tensor in outputs]
        done = torch.cuda.current_stream(device).record_event() if on_gpu else None

        def poses_of() -> Poses:
            if done is not None:
                done.synchronize()
            if not self._checked:
                check_finite(self._loaded, found[0])
                self._checked = True
            joints, *peaks = (tensor.numpy() for tensor in found)
            if smooth is not None:
                joints, *sides = smooth([joints, *(of / self.image_size for of in peaks[:1])])
                peaks[:1] = [of * self.image_size for of in sides]
            return self._as_given(views, joints, *peaks)

        return poses_of

    def _as_given(
        self,
        views: Sequence[View],
        joints_3d: NDArray[np.float32],
        peaks: NDArray[np.floating[Any]] | None = None,
        heights: NDArray[np.float32] | None = None,
    ) -> Poses:
        """Return what the network says of its own images as it is of the images that were given.

        Peaks and heights of the heatmaps are None where there are none.
        """

        def to_camera(poses: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
            rotated = [view.to_camera(pose) for view, pose in zip(views, poses, strict=True)]
            return np.array(rotated, np.float32).reshape(poses.shape)

        def to_image(joints: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
            mapped = [view.to_image(pixels, self.image_size) for view, pixels in zip(views, joints, strict=True)]
            return np.array(mapped, np.float32).reshape(joints.shape)

        unknown = np.full((len(views), len(self.skeleton.heatmap_joints)), np.nan, np.float32)
        found_2d = unknown[..., None].repeat(2, -1) if peaks is None else to_image(peaks)
        poses = Poses(to_camera(joints_3d), found_2d, unknown if heights is None else heights)
        if self.head is None:
            return poses
        # the network's image is the dataset's camera's, however the given one is rotated: the pose is projected there
        placed = self.head.place(joints_3d)
        projected = self._camera.project(placed)
        visible = self._camera.visibility(projected, placed)
        shown = to_image(np.where(visible[..., None] == UNSEEN, np.nan, projected))
        seen = list(self.skeleton.heatmap_joints)
        poses = dataclasses.replace(poses, joints_3d_camera=to_camera(placed), projected_2d=shown)
        if peaks is None:
            return dataclasses.replace(poses, joints_2d=shown[:, seen], distance=unknown.copy())
        distance = np.linalg.norm(shown[:, seen] - poses.joints_2d, axis=-1)
        distance[visible[:, seen] != IN_IMAGE] = np.nan
        return dataclasses.replace(poses, distance=distance)


def check_image(image: Image) -> None:
    """Raise ValueError for an array that is no image."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image is {image.dtype} {image.shape}: give uint8 (H, W, 3), RGB")


def _refuse(loaded: LoadedModel) -> NoReturn:
    raise InputError(
        f"{loaded.source} is a {loaded.stage.name} checkpoint, not the whole way from an image to its pose: "
        "give one that finetune made"
    )
