"""Poses of images and videos: ``python engine/infer.py --checkpoint FILE --input-dir IMAGES --output-dir OUT``.

For programs: ``model = load_model("best.pt")``, then ``model(images)``, see `engine.inference.pose_model.PoseModel`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, TypeVar

if not __package__:  # run as a file: its folder would shadow the standard library and hide our packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import tyro

from engine.cli.command import CHECK_FAILED, OK, Command, command
from engine.cli.progress import progress_bar
from engine.distributed import choose_device
from engine.inference.images import InputImage, Preparation, Unreadable, read_image
from engine.inference.inputs import Input, find_inputs
from engine.inference.outputs import Drawings
from engine.inference.pose_model import PoseModel, Turn, View
from engine.inference.predictions_file import PredictionsFile, writing_predictions
from engine.inference.video import Video
from engine.loaded_model import read_model
from engine.precision import Precision, PrecisionName
from loaders.errors import InputError
from loaders.image_circle import Circle
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class InferConfig(Command):
    """Poses of images and videos."""

    checkpoint: Path
    """Checkpoint of a finetuned network, ours or of the reference code."""
    input: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--input-dir",))]
    """Folders, images, videos, or patterns in quotes such as 'IMAGES/**/*.png'. The center square counts."""
    output: Annotated[Path, tyro.conf.arg(aliases=("--output-dir",))]
    """Folder for predictions.json and images/; what it holds of these is replaced."""
    rotate: Turn = 0
    """Turn images clockwise before the network sees them (degrees); results are turned back."""
    mask_circle: str | None = None
    """Make black what is outside a circle, as around the training images: auto takes that of the images that the
    checkpoint was trained with, x,y,r is one in the input (pixels)."""
    images: bool = True
    """Write the images and videos with the predictions drawn."""
    batch_size: int = 32
    """Images that the network sees at once (images)."""
    threads: int = 0
    """Threads that read and write images (threads); 0 takes all cores."""
    precision: PrecisionName = "auto"
    """Type of matrix products; auto is bf16 where the GPU or CPU computes in it natively, else fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.input:
            raise InputError("input is empty: give a folder, an image, a video, or a pattern in quotes")
        check_ranges(self, batch_size=Range(1), threads=Range(0))

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
    pixels of the images, and the confidence (n, 15).

    Args:
        checkpoint: of a finetuned network, ours or of the reference code.
        device: auto takes the GPU if there is one.
        precision: auto is bf16 where the GPU or CPU computes in it natively, else fp32.

    Raises:
        InputError: the file is no such checkpoint.
    """
    chosen = choose_device(device)
    return PoseModel(read_model(Path(checkpoint), chosen), Precision.choose(precision, chosen))


@command("infer", "Predict the poses in images and videos.")
def main(config: InferConfig) -> int:
    """Predict and return the exit status: 1 if something could not be read, or a video not be written."""
    folder, inputs = find_inputs(config.input)
    if clash := next((given.path for given in inputs if given.path.is_relative_to(config.drawn)), None):
        raise InputError(f"{clash} would be overwritten: give another output")
    model = load_model(config.checkpoint, device=config.device, precision=config.precision)
    prepare = Preparation(model.see, config.rotate, _circle_of(config.mask_circle, model), config.images)
    path = config.output / "predictions.json"
    started = time.perf_counter()
    with writing_predictions(path, str(config.checkpoint), folder) as file:
        unreadable, unwritten = _predict(config, inputs, prepare, model, file)
        file.finish(unreadable)
    seconds = time.perf_counter() - started
    for item in unreadable:
        logger.warning("unreadable: %s: %s", folder / item.name, item.reason)
    sys.stdout.write(
        f"{file.entries} of {file.entries + len(unreadable)} images in {seconds:.1f} s: "
        f"{file.entries / seconds:.1f} images/s\npredictions: {path}\n"
    )
    for fault in unwritten:
        logger.warning("not written: %s", fault)
    return CHECK_FAILED if unreadable or unwritten else OK


def _predict(
    config: InferConfig, inputs: Sequence[Input], prepare: Preparation, model: PoseModel, file: PredictionsFile
) -> tuple[list[Unreadable], list[str]]:
    """Read, predict, write and draw, batch by batch; return what could not be read, and what could not be drawn."""
    threads = config.threads or available_cores()
    videos = {given.name: Video(given.path) for given in inputs if given.is_video}
    expected = len(inputs) - len(videos) + sum(video.frames for video in videos.values())
    unreadable: list[Unreadable] = []
    with (
        ThreadPoolExecutor(threads) as pool,
        progress_bar(total=expected, unit="image") as bar,
        Drawings(config.drawn, videos) as drawings,
    ):
        read_ahead = in_order(pool, _do, _reading(inputs, videos, prepare), ahead=config.batch_size + threads)
        while batch := list(islice(read_ahead, config.batch_size)):
            unreadable += [item for item in batch if isinstance(item, Unreadable)]
            images = [item for item in batch if isinstance(item, InputImage)]
            poses = model.predict([image.square for image in images], [image.view for image in images])
            file.add(images, poses)
            if config.images:
                jobs = zip(images, poses.joints_2d, strict=True)
                for source, drawn in in_order(pool, drawings.draw, jobs, ahead=2 * threads):
                    drawings.keep(source, drawn)
            bar.update(len(batch))
    return unreadable, drawings.faults


Job = Callable[[], InputImage | Unreadable]


def _reading(inputs: Sequence[Input], videos: dict[str, Video], prepare: Preparation) -> Iterator[Job]:
    """Yield what reads each image; a video's frames are decoded here, one after another."""
    for given in inputs:
        if given.name not in videos:
            yield partial(_read, given, prepare)
            continue
        video = videos[given.name]
        for image, moment in video:
            yield partial(prepare, image, given.name, moment)
        if video.fault:
            yield partial(Unreadable, given.name, video.fault)


def _read(given: Input, prepare: Preparation) -> InputImage | Unreadable:
    image = read_image(given.path)
    return Unreadable(given.name, image) if isinstance(image, str) else prepare(image, given.name)


def _do(job: Job) -> InputImage | Unreadable:
    return job()


def _circle_of(text: str | None, model: PoseModel) -> Callable[[View], Circle | None]:
    """Return what tells the circle to keep of an image, in its pixels."""
    if text is None:
        return lambda view: None
    if text != "auto":
        circle = Circle.parse(text)
        return lambda view: circle
    trained = model.preprocessing
    if trained is None or trained.image_circle is None:
        raise InputError(
            "mask_circle is auto, but the checkpoint does not hold the circle of its training images: give x,y,r"
        )

    known, size = trained.image_circle, trained.image_size

    def scaled(view: View) -> Circle:
        x, y = view.to_image(np.array([known.x, known.y]), size)
        return Circle(x, y, known.radius * view.side / size)

    return scaled


def in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], *, ahead: int) -> Iterator[R]:
    """Yield ``work`` of each item, in order, with at most ``ahead`` results waiting."""
    left = iter(items)
    waiting: deque[Future[R]] = deque(pool.submit(work, item) for item in islice(left, ahead))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(work, item) for item in islice(left, 1))


if __name__ == "__main__":
    sys.exit(main())
