"""Poses of images and videos: ``python engine/infer.py --checkpoint FILE --input-dir IMAGES --output-dir OUT``.

For programs: ``model = load_model("best.pt")``, then ``model(images)``, see `engine.inference.pose_model.PoseModel`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

if not __package__:  # run as a file: its folder would shadow the standard library and hide our packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import tyro

from engine.cli.command import CHECK_FAILED, OK, Command, command
from engine.cli.progress import progress_bar
from engine.device import choose_device
from engine.inference.images import InputImage, Preparation, Unreadable, mask_circle
from engine.inference.inputs import Job, by_folder, find_inputs, in_order, one_behind, reading_jobs
from engine.inference.outputs import Drawings, PredictionsFile, writing_predictions
from engine.inference.pose_model import PoseModel, Poses
from engine.inference.video import Video
from engine.inference.view import Rotation
from engine.loaded_model import read_model
from engine.precision import Precision, PrecisionName
from loaders.errors import InputError
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class InferConfig(Command):
    """Poses of images and videos."""

    checkpoint: Path
    """Checkpoint of a network that goes from images to poses: of finetune, ours or of the reference code, or of a stage
    of your own that takes images alone."""
    input: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--input-dir",))]
    """Folders, images, videos, or patterns in quotes such as 'IMAGES/**/*.png'. Images of any size are taken for the
    dataset's frames or their center squares, enlarged or reduced; the network gets the crop that it was trained on."""
    output: Annotated[Path, tyro.conf.arg(aliases=("--output-dir",))]
    """Folder for predictions.json and images/; what it holds of these is replaced."""
    rotate: Rotation = 0
    """Rotate images clockwise before the network gets them (degrees); results are rotated back. Networks know images
    with the wearer's chin at the top edge, the feet near the middle, and the left arm on the right side. Where the chin
    is at the bottom edge, give 180; at the left edge, 90; at the right edge, 270."""
    mask_circle: str | None = None
    """Make images black outside a circle, as the training images are: auto takes the circle of the training images,
    x,y,r is a circle in the input (pixels)."""
    sequence: bool = False
    """Take the images of a folder, in the order of their names, for consecutive frames of one recording, as those of a
    video are. For networks that see windows of frames; without it an image's window is that image again and again."""
    images: bool = True
    """Write the images and videos with the predictions drawn."""
    batch_size: int = 32
    """Images in a batch (images)."""
    workers: int = 0
    """Threads that read and write images (threads); 0 takes one for each core."""
    precision: PrecisionName = "auto"
    """Type of matrix products; auto is bf16 where the GPU or CPU computes in it natively, else fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def __post_init__(self) -> None:
        if not self.input:
            raise InputError("input is empty: give a folder, an image, a video, or a pattern in quotes")
        check_ranges(self, "--", batch_size=Range(1), workers=Range(0))

    @property
    def drawn(self) -> Path:
        """Folder of the images and videos with predictions."""
        return self.output.absolute() / "images"


def load_model(
    checkpoint: Path | str, *, device: Literal["auto", "cpu", "cuda"] = "auto", precision: PrecisionName = "auto"
) -> PoseModel:
    """Return a function from images to poses.

    ``model(images)`` takes uint8 RGB images (n, H, W, 3), or n images of different sizes, and returns
    `engine.inference.pose_model.Poses`: joints_3d (n, 16, 3) in metres relative to Neck, joints_2d (n, 15, 2) in
    pixels of the images, and the confidence (n, 15); of other datasets as many as ``model.skeleton`` has, relative to
    its root. If the checkpoint says where the head is, also joints_3d_camera (n, 16, 3) in metres in the camera frame,
    its projection projected_2d (n, 16, 2) into the images, and the distance (n, 15) of that to joints_2d (pixels). A
    network without heatmaps has no confidence and no distance, which are NaN; its joints_2d are that projection, or
    NaN.

    A network that sees windows, of ``model.window`` frames that lie ``model.stride`` apart, takes the images of a call
    for consecutive frames of one recording. What the windows of the first ones lack, the first image stands in for.

    Args:
        checkpoint: of a network that goes from images to poses: of finetune, ours or of the reference code, or of a
            stage of a user's own that takes images alone.
        device: auto takes the GPU if there is one.
        precision: auto is bf16 where the GPU or CPU computes in it natively, else fp32.

    Raises:
        InputError: the file is no such checkpoint. That a stage of a user's own cannot predict without labels shows in
            the first call, which then raises it.
    """
    chosen = choose_device(device)
    return PoseModel(read_model(Path(checkpoint), chosen), Precision.choose(precision, chosen))


@command("infer", "Predict the poses in images and videos.")
def main(config: InferConfig) -> int:
    """Predict and return the exit status: 1 if something could not be read, or a video not be written."""
    folder, inputs = find_inputs(config.input)
    if clash := next((source.path for source in inputs if source.path.is_relative_to(config.drawn)), None):
        raise InputError(f"{clash} would be overwritten: give another output")
    model = load_model(config.checkpoint, device=config.device, precision=config.precision)
    circle_of = mask_circle(config.mask_circle, model.preprocessing)
    if config.sequence:
        inputs = by_folder(inputs)
    _check_sequence(config, model, sum(not source.is_video for source in inputs))
    videos = {source.name: Video(source.path) for source in inputs if source.is_video}
    prepare = Preparation(model.preprocess, partial(model.view, rotate=config.rotate), circle_of, config.images)
    jobs = reading_jobs(inputs, videos, prepare)
    expected = len(inputs) - len(videos) + sum(video.frames for video in videos.values())
    path = config.output / "predictions.json"
    started = time.perf_counter()
    with (
        writing_predictions(path, str(config.checkpoint), folder, model.head_of(config.rotate), model.skeleton) as file,
        progress_bar(total=expected, unit="image") as bar,
        ExitStack() as open_video,
    ):
        drawings = Drawings(config.drawn, videos, open_video, model.skeleton)
        for done in _predict(config, jobs, model, file, drawings):
            bar.update(done)
    seconds = time.perf_counter() - started
    for item in file.unreadable:
        logger.warning("unreadable: %s: %s", folder / item.name, item.reason)
    sys.stdout.write(
        f"{file.entries} of {file.entries + len(file.unreadable)} images in {seconds:.1f} s: "
        f"{file.entries / seconds:.1f} images/s\npredictions: {path}\n"
    )
    if (distance := file.median_distance) is not None:
        sys.stdout.write(f"poses projected into the images lie {distance:.1f} px from the heatmaps' peaks (median)\n")
    elif model.head is None and model.skeleton.head is not None:
        logger.info("no poses in the camera frame: the checkpoint does not say where the head is")
    for fault in drawings.faults:
        logger.warning("not written: %s", fault)
    return CHECK_FAILED if file.unreadable or drawings.faults else OK


def _check_sequence(config: InferConfig, model: PoseModel, images: int) -> None:
    """Raise InputError for ``--sequence`` without windows; name it where several images might be consecutive frames."""
    if config.sequence and model.window == 1:
        raise InputError(
            f"--sequence is for networks that see windows, {config.checkpoint} sees single frames: drop it"
        )
    if not config.sequence and model.window > 1 and images > 1:
        logger.info(
            "the network sees windows of %d frames, and each image is by itself: --sequence takes the images of a "
            "folder for consecutive frames",
            model.window,
        )


def _predict(
    config: InferConfig, jobs: Iterator[Job], model: PoseModel, file: PredictionsFile, drawings: Drawings
) -> Iterator[int]:
    """Read, predict, write and draw, batch by batch; yield the size of each batch."""
    workers = config.workers or available_cores()
    with ThreadPoolExecutor(workers) as pool:
        read_ahead = in_order(pool, jobs, ahead=config.batch_size + workers)
        # a GPU computes the next batch while this one is written and drawn
        for batch, begun in one_behind(_begin(read_ahead, config, model)):
            file.unreadable += [item for item in batch if isinstance(item, Unreadable)]
            images = [item for item in batch if isinstance(item, InputImage)]
            poses = begun()
            file.add(images, poses)
            if config.images:
                drawing = (partial(drawings.draw, *pair) for pair in zip(images, poses.joints_2d, strict=True))
                for image, drawn in zip(images, in_order(pool, drawing, ahead=2 * workers), strict=True):
                    if drawn is not None:
                        drawings.append(image, drawn)
            yield len(batch)


def _begin(
    items: Iterator[InputImage | Unreadable], config: InferConfig, model: PoseModel
) -> Iterator[tuple[list[InputImage | Unreadable], Callable[[], Poses]]]:
    """Yield batches, and what returns their poses once they are computed."""
    windows = model.windows()
    while batch := list(islice(items, config.batch_size)):
        images = [item for item in batch if isinstance(item, InputImage)]
        sequences = [image.sequence if config.sequence or image.timing else None for image in images]
        frames = windows.add([image.square for image in images], sequences)
        yield batch, model.begin(*frames, [image.view for image in images])


if __name__ == "__main__":
    sys.exit(main())
