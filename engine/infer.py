"""Poses of a folder of pictures: ``python engine/infer.py --checkpoint FILE --input-dir IMAGES --output-dir OUT``.

For programs: ``model = load_model("best.pt")``, then ``model(images)``, see `engine.pose_model.PoseModel`.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

if not __package__:  # run as a file: its folder would shadow the standard library and hide our packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)


from engine import command
from engine.distributed import choose_device
from engine.pictures import Circle, Picture, Unreadable, draw, list_pictures, read_picture
from engine.pose_model import PoseModel, Poses, Turn
from engine.precision import Precision, PrecisionName
from engine.progress import progress_bar
from engine.trained import load_trained
from loaders.config import available_cores
from loaders.errors import InputError
from models.skeleton import HEATMAP_JOINTS, JOINTS

_AXES: Final = "x to the right of the picture, y down, z along the camera's axis; relative to Neck"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class InferConfig(command.Command):
    """Poses of a folder of pictures."""

    checkpoint: Path
    """Checkpoint of a finetuned network, ours or of the reference code."""
    input_dir: Path
    """Folder of pictures of any size; the centre square counts."""
    output_dir: Path
    """Folder for predictions.json and pictures/; what it holds of these is replaced."""
    rotate: Turn = 0
    """Turn pictures clockwise before the network sees them (degrees); results are turned back."""
    mask_circle: str | None = None
    """x,y,r: make black what is outside this circle, as around the training pictures (pixels of the input)."""
    pictures: bool = True
    """Write the pictures with the predictions drawn."""
    batch_size: int = 32
    """Pictures that the network sees at once (pictures)."""
    threads: int = 0
    """Threads that read and write pictures (threads); 0 takes all cores."""
    precision: PrecisionName = "auto"
    """Type of matrix products; auto is bf16 where the GPU has it, else fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}: give at least 1")
        if self.threads < 0:
            raise InputError(f"threads is {self.threads}: give at least 0")
        if (self.output_dir / "pictures").resolve() == self.input_dir.resolve():
            raise InputError(f"{self.input_dir} would be overwritten: give another output_dir")
        Circle.parse(self.mask_circle)


def load_model(
    checkpoint: Path | str, *, device: Literal["auto", "cpu", "cuda"] = "auto", precision: PrecisionName = "auto"
) -> PoseModel:
    """Return a function from pictures to poses.

    ``model(images)`` takes uint8 RGB pictures (n, H, W, 3), or n pictures of different sizes, and returns
    `engine.pose_model.Poses`: joints_3d (n, 16, 3) in metres relative to Neck, joints_2d (n, 15, 2) in pixels of the
    pictures, and the confidence (n, 15).

    Args:
        checkpoint: of a finetuned network, ours or of the reference code.
        device: auto takes the GPU if there is one.
        precision: auto is bf16 where the GPU has it, else fp32.

    Raises:
        InputError: the file is no such checkpoint.
    """
    chosen = choose_device(device)
    return PoseModel(load_trained(Path(checkpoint), chosen), Precision.choose(precision, chosen))


def infer(config: InferConfig) -> int:
    """Predict and return the exit status: 1 if a picture could not be read."""
    files = list_pictures(config.input_dir)
    model = load_model(config.checkpoint, device=config.device, precision=config.precision)
    folder = config.output_dir / "pictures"
    (folder if config.pictures else config.output_dir).mkdir(parents=True, exist_ok=True)
    circle = Circle.parse(config.mask_circle)
    threads = config.threads or available_cores()
    described: list[dict[str, Any]] = []
    unreadable: list[Unreadable] = []
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool, progress_bar(total=len(files), unit="picture") as bar:

        def read(file: Path) -> Picture | Unreadable:
            return read_picture(file, model.image_size, turn=config.rotate, circle=circle, keep=config.pictures)

        def write(job: tuple[Picture, Any]) -> None:
            (folder / job[0].file.name).write_bytes(draw(*job))

        read_ahead = in_order(pool, read, files, ahead=config.batch_size + threads)
        while batch := list(islice(read_ahead, config.batch_size)):
            unreadable += [item for item in batch if isinstance(item, Unreadable)]
            pictures = [item for item in batch if isinstance(item, Picture)]
            poses = model.predict([picture.square for picture in pictures], [picture.view for picture in pictures])
            described += [describe(picture, poses, i) for i, picture in enumerate(pictures)]
            if config.pictures:
                deque(in_order(pool, write, zip(pictures, poses.joints_2d, strict=True), ahead=2 * threads), maxlen=0)
            bar.update(len(batch))
    seconds = time.perf_counter() - started
    write_predictions(config, described, unreadable)
    for item in unreadable:
        sys.stderr.write(f"infer: unreadable: {item.file}: {item.reason}\n")
    sys.stdout.write(
        f"{len(described)} of {len(files)} pictures in {seconds:.1f} s: {len(files) / seconds:.1f} pictures/s\n"
        f"predictions: {config.output_dir / 'predictions.json'}\n"
    )
    return command.CHECK_FAILED if unreadable else command.OK


def in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], *, ahead: int) -> Iterator[R]:
    """Yield ``work`` of each item, in order, with at most ``ahead`` results waiting."""
    left = iter(items)
    waiting: deque[Future[R]] = deque(pool.submit(work, item) for item in islice(left, ahead))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(work, item) for item in islice(left, 1))


def describe(picture: Picture, poses: Poses, i: int) -> dict[str, Any]:
    """Return a picture's entry in predictions.json."""
    seen = [JOINTS[joint] for joint in HEATMAP_JOINTS]
    return {
        "file": picture.file.name,
        "width": picture.view.width,
        "height": picture.view.height,
        "joints_3d_m": dict(zip(JOINTS, poses.joints_3d[i].astype(float).round(5).tolist(), strict=True)),
        "joints_2d_px": dict(zip(seen, poses.joints_2d[i].astype(float).round(2).tolist(), strict=True)),
        "confidence": dict(zip(seen, poses.confidence[i].astype(float).round(4).tolist(), strict=True)),
    }


def write_predictions(
    config: InferConfig, described: Sequence[dict[str, Any]], unreadable: Sequence[Unreadable]
) -> None:
    """Write predictions.json."""
    content = {
        "checkpoint": str(config.checkpoint),
        "input_dir": str(config.input_dir),
        "axes": _AXES,
        "pictures": described,
        "unreadable": [{"file": item.file.name, "reason": item.reason} for item in unreadable],
    }
    path = config.output_dir / "predictions.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return command.run(
        InferConfig,
        infer,
        program="infer",
        description="Predict the poses in a folder of pictures.",
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
