"""Poses of images and videos: ``python engine/infer.py --checkpoint FILE --input-dir IMAGES --output-dir OUT``.

For programs: ``model = load_model("best.pt")``, then ``model(images)``, see `engine.inference.pose_model.PoseModel`,
or frame by frame ``PoseStream(model).push(image, time)``, see `engine.inference.stream.PoseStream`.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

if not __package__:  # run as a file: its folder would shadow the standard library and hide our packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import tyro

from engine.cli.command import CHECK_FAILED, OK, Command, command, parse
from engine.cli.progress import progress_bar
from engine.cli.signals import Signals
from engine.device import choose_device
from engine.inference.camera import Camera
from engine.inference.files import FileWork
from engine.inference.images import Preparation, Unreadable, mask_circle
from engine.inference.inputs import by_folder, find_inputs, reading_jobs
from engine.inference.live import CAMERA, Watch
from engine.inference.outputs import Drawings, PredictionsFile, writing_predictions
from engine.inference.pose_model import PoseModel
from engine.inference.stream import PoseStream
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
    """Poses of images and videos, or before a camera."""

    checkpoint: Path
    """Checkpoint of a network that goes from images to poses: of finetune, ours or of the reference code, or of a stage
    of your own that takes images alone."""
    input: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--input-dir",))] = ()
    """Folders, images, videos, or patterns in quotes such as 'IMAGES/**/*.png'. Images of any size are taken for the
    dataset's frames or their center squares, enlarged or reduced; the network gets the crop that it was trained on."""
    output: Annotated[Path, tyro.conf.arg(aliases=("--output-dir",))]
    """Folder for predictions.json and images/; what it holds of these is replaced."""
    camera: str | None = None
    """In place of an input, a camera that is live: the number of a device, its path such as /dev/video0, or a URL such
    as rtsp://... While the network is busy frames are skipped, so that it always sees the newest. Ctrl-C ends it."""
    duration: float = 0.0
    """How long to watch the camera from its first frame (seconds); 0 goes on until a signal or the stream's end."""
    rotate: Rotation = 0
    """Rotate images clockwise before the network gets them (degrees); results are rotated back. Networks know images
    with the wearer's chin at the top edge, the feet near the middle, and the left arm on the right side. Where the chin
    is at the bottom edge, give 180; at the left edge, 90; at the right edge, 270."""
    mask_circle: str | None = None
    """Make images black outside a circle, as the training images are: auto takes the circle of the training images,
    x,y,r is a circle in the input (pixels)."""
    sequence: bool = False
    """Take the images of a folder, in the order of their names, for consecutive frames of one recording, as those of a
    video are. For networks that see windows of frames, and for --smooth; without it an image's window is that image
    again and again."""
    smooth: float = 0.0
    """Smooth the poses of videos, of --sequence and of the camera by the one-euro filter: how strongly, where 1 suits
    30 frames a second and 0 is off. A joint that rests follows with a time constant of 0.16 times this (seconds)."""
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
        if not self.input and self.camera is None:
            raise InputError("input is empty: give a folder, an image, a video, a pattern in quotes, or --camera")
        check_ranges(self, "--", batch_size=Range(1), workers=Range(0), smooth=Range(0), duration=Range(0))
        if self.camera is None:
            if self.duration:
                raise InputError("--duration is for --camera: drop it, or give a camera")
            return
        for name in ("input", "sequence", "batch_size", "workers"):
            if getattr(self, name) != InferConfig.__dataclass_fields__[name].default:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is for files, and --camera's frames come one by one: drop one of the two")

    @property
    def predictions(self) -> Path:
        """The file of predictions."""
        return self.output / "predictions.json"

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


@command(
    "infer",
    "Predict the poses in images and videos, or before a camera.",
    parser=partial(parse, InferConfig, example="--checkpoint CHECKPOINT --input INPUT --output OUTPUT"),
)
def main(config: InferConfig) -> int:
    """Predict and return the exit status: 1 if something could not be read, or a video not be written."""
    return _infer_files(config) if config.camera is None else _infer_camera(config, Camera(config.camera))


def _infer_files(config: InferConfig) -> int:
    folder, inputs = find_inputs(config.input)
    if clash := next((source.path for source in inputs if source.path.is_relative_to(config.drawn)), None):
        raise InputError(f"{clash} would be overwritten: give another output")
    model = load_model(config.checkpoint, device=config.device, precision=config.precision)
    prepare = _preparation(config, model)
    if config.sequence:
        inputs = by_folder(inputs)
    videos = {source.name: Video(source.path) for source in inputs if source.is_video}
    _check_sequence(config, model, len(inputs) - len(videos), len(videos))
    stream = PoseStream(model, smooth=config.smooth, rotate=config.rotate)
    jobs = reading_jobs(inputs, videos, prepare)
    expected = len(inputs) - len(videos) + sum(video.frames for video in videos.values())
    started = time.perf_counter()
    with (
        _predictions(config, model, stream, {"input_dir": str(folder)}) as file,
        progress_bar(total=expected, unit="image") as bar,
        ExitStack() as open_video,
    ):
        drawings = Drawings(
            config.drawn, {name: video.clock for name, video in videos.items()}, open_video, model.skeleton
        )
        workers = config.workers or available_cores()
        work = FileWork(jobs, stream, file, drawings if config.images else None)
        for done in work.predict(config.batch_size, workers, sequence=config.sequence):
            bar.update(done)
    seconds = time.perf_counter() - started
    for item in file.unreadable:
        logger.warning("unreadable: %s: %s", folder / item.name, item.reason)
    sys.stdout.write(
        f"{file.entries} of {file.entries + len(file.unreadable)} images in {seconds:.1f} s: "
        f"{file.entries / seconds:.1f} images/s\n"
    )
    return _end(config, model, file, drawings)


def _infer_camera(config: InferConfig, camera: Camera) -> int:
    model = load_model(config.checkpoint, device=config.device, precision=config.precision)
    prepare = _preparation(config, model)
    side = model.image_size
    model(np.zeros((1, side, side, 3), np.uint8))  # the first one takes longer
    stream = PoseStream(model, smooth=config.smooth, rotate=config.rotate)
    with (
        Signals(lambda name: logger.info("%s: ending; the files are finished", name)) as signals,
        camera.opened() as frames,
        _predictions(config, model, stream, {"camera": camera.shown}) as file,
        progress_bar(total=0, unit="frame") as bar,
        ExitStack() as open_video,
    ):
        drawings = Drawings(config.drawn, {CAMERA: frames.clock}, open_video, model.skeleton)
        watch = Watch(config.duration, lambda: bool(signals.number))
        for _ in watch.predict(frames, prepare, stream, file, drawings):
            bar.update()
        if frames.fault:
            file.unreadable.append(Unreadable(CAMERA, frames.fault))
    for item in file.unreadable:
        logger.warning("camera %s: %s after %d frames; what came before is kept", camera.shown, item.reason, watch.seen)
    sys.stdout.write(f"{watch.summary}\n")
    if frames.damaged:
        logger.info("%d damaged frames skipped", frames.damaged)
    return _end(config, model, file, drawings)


def _preparation(config: InferConfig, model: PoseModel) -> Preparation:
    circle_of = mask_circle(config.mask_circle, model.preprocessing)
    return Preparation(model.preprocess, partial(model.view, rotate=config.rotate), circle_of, config.images)


def _predictions(
    config: InferConfig, model: PoseModel, stream: PoseStream, source: dict[str, str]
) -> AbstractContextManager[PredictionsFile]:
    head = model.head_of(config.rotate)
    return writing_predictions(
        config.predictions,
        str(config.checkpoint),
        source,
        head,
        skeleton=model.skeleton,
        smoothing=stream.smoothing,
    )


def _end(config: InferConfig, model: PoseModel, file: PredictionsFile, drawings: Drawings) -> int:
    """Say what was written, and return the exit status."""
    sys.stdout.write(f"predictions: {config.predictions}\n")
    if (distance := file.median_distance) is not None:
        sys.stdout.write(f"poses projected into the images lie {distance:.1f} px from the heatmaps' peaks (median)\n")
    elif model.head is None and model.skeleton.head is not None:
        logger.info("no poses in the camera frame: the checkpoint does not say where the head is")
    for fault in drawings.faults:
        logger.warning("not written: %s", fault)
    return CHECK_FAILED if file.unreadable or drawings.faults else OK


def _check_sequence(config: InferConfig, model: PoseModel, images: int, videos: int) -> None:
    """Raise InputError for flags that change nothing; name --sequence where images might be consecutive frames."""
    if config.sequence and model.window == 1 and not config.smooth:
        raise InputError(
            f"--sequence is for networks that see windows, {config.checkpoint} sees single frames: drop it, or smooth "
            "their poses by --smooth"
        )
    if config.smooth and not config.sequence and images:
        if not videos:
            raise InputError(
                "--smooth is for consecutive frames, and each image is by itself: add --sequence if those of a folder "
                "are a recording's, or drop it"
            )
        logger.info("%d images are each by themselves and are not smoothed: --sequence takes them for frames", images)
    if not config.sequence and model.window > 1 and images > 1:
        logger.info(
            "the network sees windows of %d frames, and each image is by itself: --sequence takes the images of a "
            "folder for consecutive frames",
            model.window,
        )


if __name__ == "__main__":
    sys.exit(main())
