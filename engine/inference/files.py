"""The poses of files, in batches: images and the frames of videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import PurePath
from typing import Final

from engine.inference.images import InputImage, Unreadable
from engine.inference.inputs import Job, in_order, one_behind
from engine.inference.outputs import Drawings, PredictionsFile
from engine.inference.pose_model import Poses
from engine.inference.stream import PoseStream

FOLDER_RATE: Final = 30.0
"""What a folder's frames are taken for, whose files have no times: the dataset's (frames per second)."""


@dataclass(frozen=True)
class FileWork:
    """What is to be done with files."""

    jobs: Iterator[Job]
    """Read an image each."""
    stream: PoseStream
    file: PredictionsFile
    drawings: Drawings | None
    """None draws nothing."""

    def predict(self, batch_size: int, workers: int, *, sequence: bool) -> Iterator[int]:
        """Read, predict, write and draw, batch by batch; yield the size of each batch.

        Args:
            batch_size: of each but the last (images).
            workers: threads that read and draw.
            sequence: whether the images of a folder are consecutive frames.
        """
        with ThreadPoolExecutor(workers) as pool:
            read_ahead = in_order(pool, self.jobs, ahead=batch_size + workers)
            # a GPU computes the next batch while this one is written and drawn
            for batch, begun in one_behind(self._begin(read_ahead, batch_size, sequence)):
                self.file.unreadable += [item for item in batch if isinstance(item, Unreadable)]
                images = [item for item in batch if isinstance(item, InputImage)]
                poses = begun()
                self.file.add(images, poses)
                if self.drawings:
                    drawing = (partial(self.drawings.draw, *pair) for pair in zip(images, poses.joints_2d, strict=True))
                    for image, drawn in zip(images, in_order(pool, drawing, ahead=2 * workers), strict=True):
                        if drawn is not None:
                            self.drawings.append(image, drawn)
                yield len(batch)

    def _begin(
        self, items: Iterator[InputImage | Unreadable], batch_size: int, sequence: bool
    ) -> Iterator[tuple[list[InputImage | Unreadable], Callable[[], Poses]]]:
        """Yield batches, and what returns their poses once they are computed."""
        of_folder: Counter[PurePath] = Counter()
        while batch := list(islice(items, batch_size)):
            images, times = [], []
            for item in batch:
                folder = PurePath(item.name).parent
                if isinstance(item, InputImage):
                    images.append(item)
                    times.append(item.timing.get("time_s", of_folder[folder] / FOLDER_RATE))
                of_folder[folder] += 1  # what is unreadable took its time, too
            sequences = [image.sequence if sequence or image.timing else None for image in images]
            squares, views = [image.square for image in images], [image.view for image in images]
            yield batch, self.stream.begin(squares, views, sequences, times)
