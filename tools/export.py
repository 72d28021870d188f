"""Export a trained network to other runtimes: ``python -m tools.export --checkpoint FILE --output MODEL.onnx``.

The exported network takes bytes: its first step normalizes. Positions in the image are the heatmaps' peaks.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.cli.command import OK, Command, command
from engine.inference.unlabeled import check_finite, check_takes_images, drop_reconstruction, unlabeled
from engine.inference.windows import FrameWindows
from engine.loaded_model import LoadedModel, read_model
from loaders.errors import Failure, InputError
from loaders.preprocessing import Preprocessing
from loaders.system.files import appearing
from models.xr_egopose import CAMERA
from tools.synthesis.frame_generator import FrameGenerator
from tools.synthesis.render import Renderer

_OPSET: Final = 23
_TOLERANCE: Final = {"heatmap": 1e-3, "joints_3d": 1e-4, "joints_3d_camera": 1e-4}
"""Largest difference to PyTorch, of heatmaps and of joints (metres); relative where values are larger than 1."""
_AXES: Final = "x right, y down, z along the camera's axis"

Runtime = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[Any]]]
"""A network in another runtime: images (B, 3, S, S) uint8, or windows (B, T, 3, S, S), to outputs by name."""


@dataclass(frozen=True, kw_only=True)
class ExportFlags(Command):
    """Flags of ``tools.export``."""

    checkpoint: Path
    """Checkpoint of a stage that takes images and nothing else (path): of finetune, or of train2d for heatmaps alone,
    ours or the reference code's, or of a stage of your own."""
    output: Path
    """File to write (path): NAME.onnx, or NAME.pt2 for torch.export; must not exist."""

    def __post_init__(self) -> None:
        """Check the ending."""
        if self.output.suffix not in _FORMATS:
            raise InputError(f"{self.output} ends in neither of {', '.join(_FORMATS)}: the ending chooses the format")


class Exported(nn.Module):
    """Images (B, 3, S, S) uint8 RGB, or windows (B, T, 3, S, S), to what the stage predicts of them.

    That is any of ``outputs``: heatmaps, the pose, and the pose in the camera frame if the head's place is known.
    """

    head: Tensor | None

    def __init__(self, loaded: LoadedModel) -> None:
        """Copy a network, without what only its loss needs, and run it once.

        Raises InputError if that predicts nothing, or if it takes labels.
        """
        super().__init__()
        stage, self.model = copy.deepcopy(loaded.stage), copy.deepcopy(loaded.model)
        drop_reconstruction(stage, self.model)
        self.predict = stage.predict
        """Not the stage itself: all of this module's constants are written, and the stage's are for its loss."""
        self.register_buffer("head", torch.tensor(loaded.head.mean) if loaded.head else None)
        self.head_joint = loaded.head.joint if loaded.head else 0
        self.joints = len(loaded.skeleton)
        self.eval().to(memory_format=torch.contiguous_format)
        predicted = _predict(loaded, _example(loaded))
        if not predicted:
            raise InputError(
                f"{loaded.source} is a {loaded.stage.name} checkpoint, which predicts neither heatmaps nor poses: "
                "there is nothing to export"
            )
        self.outputs = tuple(predicted)
        """Names of what it gives."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the ``outputs``."""
        # not run_to_predict: comparing shapes with the batch's would fix its size
        prediction = self.predict(self.model, unlabeled(image, self.joints))
        found = [values for values in (prediction.heatmap, prediction.joints_3d) if values is not None]
        if prediction.joints_3d is not None and self.head is not None:
            head = prediction.joints_3d[:, self.head_joint : self.head_joint + 1]
            found.append(prediction.joints_3d - head + self.head)
        return tuple(found)


@command("tools.export", "Export a trained network as ONNX or as a torch.export package, and compare it with PyTorch.")
def main(flags: ExportFlags) -> int:
    """Write the network, run it in the other runtime, and return the exit status; a network that differs is removed."""
    if flags.output.exists():
        raise InputError(f"{flags.output} exists: remove it, or give another output")
    if flags.output.suffix == ".onnx":
        _check_onnx()
    write, open_file = _FORMATS[flags.output.suffix]
    loaded = read_model(flags.checkpoint, torch.device("cpu"))
    check_takes_images(loaded)
    network = Exported(loaded)
    flags.output.parent.mkdir(parents=True, exist_ok=True)
    with appearing(flags.output) as temporary, _saying_why(flags):
        write(loaded, network, temporary)
        largest = compare(open_file(temporary, network.outputs), loaded)
    differences = ", ".join(f"{name} {difference:.1e}" for name, difference in largest.items())
    shape = ", ".join(map(str, _example(loaded).shape[1:]))
    windows = ""
    if loaded.stage.sees_windows:
        length, stride = loaded.window
        windows = f", window {length} frames, stride {stride}, the last one is predicted"
    sys.stdout.write(
        f"{flags.output}: takes image, uint8 (batch, {shape}) RGB{windows}; gives {' and '.join(network.outputs)}\n"
        f"largest difference to PyTorch: {differences}\n"
    )
    return OK


@contextlib.contextmanager
def _saying_why(flags: ExportFlags) -> Iterator[None]:
    """Say in one line what a network has that the format does not hold, instead of all that torch says meanwhile."""
    before = logging.root.manager.disable
    try:
        logging.disable(logging.ERROR)
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stderr(io.StringIO()):
            yield
    except (InputError, Failure, OSError):
        raise
    except Exception as error:  # whatever torch and the runtimes raise
        cause: BaseException = error
        while cause.__cause__ is not None:  # the outermost says what to read, the innermost what is wrong
            cause = cause.__cause__
        first = next(iter(str(cause).strip().splitlines()), "")
        other = next(ending for ending in _FORMATS if ending != flags.output.suffix)
        raise InputError(
            f"{flags.checkpoint} cannot be exported to {flags.output.suffix} ({type(cause).__name__}: {first}): try "
            f"{flags.output.with_suffix(other)}"
        ) from error
    finally:
        logging.disable(before)


def compare(runtime: Runtime, loaded: LoadedModel) -> dict[str, float]:
    """Return the largest difference of each output, on noise and on generated frames, one and several at once.

    Raises Failure if one is larger than rounding explains.
    """
    shape = _example(loaded).shape[1:]
    noise = np.random.default_rng(0).integers(0, 256, (5, *shape), np.uint8)
    frames = generated_frames(4, loaded.stage.image_size)
    if loaded.stage.sees_windows:
        held, windows = FrameWindows(*loaded.window).add([*frames], [""] * len(frames))
        frames = np.stack(held)[windows]
    largest: dict[str, float] = {}
    for images in (noise, noise[:1], frames):
        predicted = _predict(loaded, torch.from_numpy(images))
        for name, values in runtime(images).items():
            expected = predicted[name]
            difference = float(np.abs(values - expected).max())
            allowed = _TOLERANCE[name] * max(1.0, float(np.abs(expected).max()))
            if not difference <= allowed:
                raise Failure(f"the exported {name} differs by {difference:.2g} from PyTorch, {allowed:.2g} is allowed")
            largest[name] = max(largest.get(name, 0.0), difference)
    return largest


@torch.inference_mode()
def _predict(loaded: LoadedModel, images: Tensor) -> dict[str, NDArray[Any]]:
    """Return what PyTorch says, by the names of the outputs. Raises InputError if that is not finite."""
    prediction = loaded.stage.run_to_predict(loaded.model, unlabeled(images, len(loaded.skeleton)))
    named = {"heatmap": prediction.heatmap, "joints_3d": prediction.joints_3d}
    found = {name: values.float() for name, values in named.items() if values is not None}
    check_finite(loaded, *found.values())
    arrays = {name: values.numpy() for name, values in found.items()}
    if loaded.head is not None and "joints_3d" in arrays:
        arrays["joints_3d_camera"] = loaded.head.place(arrays["joints_3d"])
    return arrays


def generated_frames(count: int, size: int) -> NDArray[np.uint8]:
    """Return (count, 3, size, size) uint8 RGB."""
    renderer = Renderer()
    frames = FrameGenerator("male_008_a_a", 1, count, 0).frames(1, count)
    images = [renderer.render(frame.scene).color[:, :, ::-1] for frame in frames]
    square = Preprocessing.of("raw", "square", size, 0, CAMERA)
    return np.stack([square.apply(image) for image in images]).transpose(0, 3, 1, 2)


def _check_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX needs {' and '.join(missing)}: pip install onnx onnxruntime onnxscript, or take .pt2")


def _write_onnx(loaded: LoadedModel, network: Exported, path: Path) -> None:
    import onnx  # noqa: PLC0415

    exported = torch.onnx.export(
        network,
        (_example(loaded),),
        input_names=["image"],
        output_names=network.outputs,
        dynamic_shapes=_DYNAMIC,
        opset_version=_OPSET,
        external_data=False,
        verbose=False,
    )
    assert exported is not None
    model = exported.model_proto
    for node in model.graph.node:  # where in whose code it was called
        notes = [note for note in node.metadata_props if note.key != "pkg.torch.onnx.stack_trace"]
        del node.metadata_props[:]
        node.metadata_props.extend(notes)
    onnx.helper.set_model_props(model, _metadata(loaded, network.outputs))
    onnx.save(model, path)


def _open_onnx(path: Path, outputs: Sequence[str]) -> Runtime:
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: dict(zip(outputs, session.run(outputs, {"image": images}), strict=True))


def _write_package(loaded: LoadedModel, network: Exported, path: Path) -> None:
    program = torch.export.export(network, (_example(loaded),), dynamic_shapes=_DYNAMIC)
    for graph in (
        module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)
    ):
        for node in graph.nodes:
            node.meta.pop("stack_trace", None)  # where in whose code it was called
    content = io.BytesIO()  # torch wants a certain ending of a path, and aborts when a file fails
    facts = _metadata(loaded, network.outputs) | {"outputs": json.dumps(network.outputs)}
    torch.export.save(program, content, extra_files=facts)
    path.write_bytes(content.getbuffer())


def _open_package(path: Path, outputs: Sequence[str]) -> Runtime:
    with path.open("rb") as file:
        network = torch.export.load(file).module()
    return lambda images: {
        name: values.detach().numpy() for name, values in zip(outputs, network(torch.from_numpy(images)), strict=True)
    }


_FORMATS: Final = {".onnx": (_write_onnx, _open_onnx), ".pt2": (_write_package, _open_package)}
"""Ending of the file -> functions that write it, and that open it as a function from images to outputs by name."""
_DYNAMIC: Final = {"image": {0: torch.export.Dim("batch", min=1)}}


def _example(loaded: LoadedModel) -> Tensor:
    """Return two black images (2, 3, S, S), or windows of them (2, T, 3, S, S)."""
    size, window = loaded.stage.image_size, loaded.window[:1] if loaded.stage.sees_windows else ()
    return torch.zeros(2, *window, 3, size, size, dtype=torch.uint8)


def _metadata(loaded: LoadedModel, outputs: Sequence[str]) -> dict[str, str]:
    """Return what a user of the file must know, as it is written into it."""
    size, camera, skeleton = loaded.stage.image_size, loaded.camera, loaded.skeleton
    (left, top, side), root = camera.window(loaded.crop), skeleton.joints[skeleton.root]
    frame = f"{camera.width}x{camera.height} frame"
    facts = {
        "checkpoint": str(loaded.source),
        "crop": loaded.crop,
        "image": f"{size}x{size} RGB of the {side}x{side} px of a {frame} at left {left}, top {top}, black beyond it",
    }
    if loaded.stage.sees_windows:
        length, stride = loaded.window
        facts["window"] = f"{length} frames of one recording, whose last one is predicted"
        facts["stride"] = f"{stride} frames from one to the next; the recording's first one stands for those before it"
    if "heatmap" in outputs:
        facts["heatmap_joints"] = json.dumps(skeleton.heatmap_names)
    if "joints_3d" in outputs:
        facts["joints_3d"] = f"{json.dumps(skeleton.joints)}, metres relative to {root}, {_AXES}"
    if loaded.head is not None and "joints_3d_camera" in outputs:
        head = skeleton.joints[loaded.head.joint]
        facts["joints_3d_camera"] = f"the same joints in the camera frame, metres, {_AXES}; {head} lies at head.mean"
        facts["head"] = json.dumps({"mean": loaded.head.mean, "spread": loaded.head.spread, "unit": "metres"})
    return facts


if __name__ == "__main__":
    sys.exit(main())
