"""The frames of a recording, or of several, one after another: their windows and their smoothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

from engine.inference.pose_model import PoseModel, Poses, check_image
from engine.inference.smoothing import Smoother
from engine.inference.view import Rotation, View
from loaders.codecs import Image
from loaders.errors import InputError


class PoseStream:
    """Poses of frames that come one after another, see `push`; it remembers what later frames need of earlier ones."""

    def __init__(self, model: PoseModel, *, smooth: float = 0.0, rotate: Rotation = 0) -> None:
        """No frame has come yet.

        Args:
            model: from `engine.infer.load_model`.
            smooth: strength of the one-euro filter, as ``--smooth``; 0 is none.
            rotate: rotate the images clockwise first, for cameras that are mounted otherwise (degrees).

        Raises InputError for a strength that is negative or not finite.
        """
        if not 0 <= smooth < float("inf"):
            raise InputError(f"smooth is {smooth}: give 0, which is off, or a finite number above it")
        self._model = model
        self._rotate: Rotation = rotate
        self._windows = model.windows()
        self._smoother = Smoother(smooth) if smooth else None

    @property
    def smoothing(self) -> dict[str, Any] | None:
        """The filter and its settings; None without one."""
        return self._smoother.facts if self._smoother else None

    def push(self, image: Image, time: float) -> Poses:
        """Return the pose of the next frame, n = 1.

        Args:
            image: (H, W, 3) uint8 RGB.
            time: when it was taken, by any clock (seconds). What is not after the frame before begins the smoothing
                anew.
        """
        check_image(image)
        view = self._model.view(image, self._rotate)
        return self.begin([self._model.preprocess(view.cut(image))], [view], [""], [time])()

    def begin(
        self,
        squares: Sequence[Image],
        views: Sequence[View],
        sequences: Sequence[Hashable | None],
        times: Sequence[float],
    ) -> Callable[[], Poses]:
        """Begin to predict n frames, and return what waits for the device and returns their poses.

        With smoothing, what is returned must be called in the order of the frames, once each.

        Args:
            squares: n, (S, S, 3), as `PoseModel.preprocess` makes them.
            views: n, which they were cut with.
            sequences: n, what each is a frame of; None is a frame by itself. All of a sequence come together.
            times: n, when each was taken (seconds).
        """
        frames = self._windows.add(squares, sequences)
        smooth = partial(self._smoother, sequences=sequences, times=times) if self._smoother else None
        return self._model.begin(*frames, views, smooth)
