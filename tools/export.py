"""Export a trained network to other runtimes: ``python -m tools.export --checkpoint FILE --output MODEL.onnx``.

The exported network takes bytes: its first step normalizes. Positions in the image are the heatmaps' peaks.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.cli.command import OK, Command, command
from engine.loaded_model import LoadedModel, read_model
from loaders.errors import Failure, InputError
from loaders.preprocessing import cut, resize
from loaders.system.files import appearing
from models.camera import XR_EGOPOSE
from models.lifting_net import LiftingNet
from models.skeleton import HEAD, HEATMAP_JOINTS, JOINTS
from tools.synthesis.frame_generator import FrameGenerator
from tools.synthesis.render import Renderer

_OPSET: Final = 23
_TOLERANCE: Final = {"heatmap": 1e-3, "joints_3d": 1e-4, "joints_3d_camera": 1e-4}
"""Largest difference to PyTorch, of heatmaps and of joints (metres); relative where values are larger than 1."""
_AXES: Final = "x right, y down, z along the camera's axis"

Runtime = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[Any]]]
"""A network in another runtime: images (B, 3, S, S) uint8 to outputs by name."""


@dataclass(frozen=True, kw_only=True)
class ExportFlags(Command):
    """Flags of ``tools.export``."""

    checkpoint: Path
    """Checkpoint of a finetuned network, or of train2d for heatmaps alone (path); ours or the reference code's."""
    output: Path
    """File to write (path): NAME.onnx, or NAME.pt2 for torch.export; must not exist."""

    def __post_init__(self) -> None:
        """Check the ending."""
        if self.output.suffix not in _FORMATS:
            raise InputError(f"{self.output} ends in neither of {', '.join(_FORMATS)}: the ending chooses the format")


class Exported(nn.Module):
    """Images (B, 3, S, S) uint8 RGB to heatmaps, to the pose if there is one, and to the pose in the camera frame."""

    head: Tensor | None

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__()
        networks = loaded.stage.networks(loaded.model)
        self.heatmap_net = networks["heatmap_net"]
        lifting_net = copy.deepcopy(networks.get("lifting_net"))
        assert lifting_net is None or isinstance(lifting_net, LiftingNet)
        self.lifting_net = lifting_net
        if lifting_net is not None:
            lifting_net.drop_reconstruction()
        self.register_buffer("head", torch.tensor(loaded.head.mean) if loaded.head else None)
        self.eval().to(memory_format=torch.contiguous_format)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return (heatmap,), (heatmap, joints_3d) or (heatmap, joints_3d, joints_3d_camera); see `output_names`."""
        heatmap = self.heatmap_net(image)
        if self.lifting_net is None:
            return (heatmap,)
        joints_3d = self.lifting_net.pose(self.lifting_net.encode(heatmap))
        if self.head is None:
            return heatmap, joints_3d
        return heatmap, joints_3d, joints_3d - joints_3d[:, HEAD : HEAD + 1] + self.head


def output_names(loaded: LoadedModel) -> tuple[str, ...]:
    """Return what the exported network gives."""
    if loaded.stage.name != "finetune":
        return ("heatmap",)
    return ("heatmap", "joints_3d", "joints_3d_camera") if loaded.head else ("heatmap", "joints_3d")


@command("tools.export", "Export a trained network as ONNX or as a torch.export package, and compare it with PyTorch.")
def main(flags: ExportFlags) -> int:
    """Write the network, run it in the other runtime, and return the exit status; a network that differs is removed."""
    if flags.output.exists():
        raise InputError(f"{flags.output} exists: remove it, or give another output")
    if flags.output.suffix == ".onnx":
        _check_onnx()
    write, open_file = _FORMATS[flags.output.suffix]
    loaded = read_model(flags.checkpoint, torch.device("cpu"))
    if loaded.stage.name not in ("train2d", "finetune"):
        raise InputError(
            f"{flags.checkpoint} is a {loaded.stage.name} checkpoint, which is not exported: give one of finetune, or "
            "of train2d"
        )
    outputs = output_names(loaded)
    flags.output.parent.mkdir(parents=True, exist_ok=True)
    with appearing(flags.output) as temporary:
        write(loaded, outputs, temporary)
        largest = compare(open_file(temporary, outputs), loaded, outputs)
    differences = ", ".join(f"{name} {difference:.1e}" for name, difference in largest.items())
    size = loaded.stage.image_size
    sys.stdout.write(
        f"{flags.output}: takes image, uint8 (batch, 3, {size}, {size}) RGB; gives {' and '.join(outputs)}\n"
        f"largest difference to PyTorch: {differences}\n"
    )
    return OK


def compare(runtime: Runtime, loaded: LoadedModel, outputs: Sequence[str]) -> dict[str, float]:
    """Return the largest difference of each output, on noise and on generated frames, one and several at once.

    Raises Failure if one is larger than rounding explains.
    """
    size = loaded.stage.image_size
    noise = np.random.default_rng(0).integers(0, 256, (5, 3, size, size), np.uint8)
    largest = dict.fromkeys(outputs, 0.0)
    for images in (noise, noise[:1], generated_frames(4, size)):
        predicted = _predict(loaded, images)
        for name, values in runtime(images).items():
            expected = predicted[name]
            difference = float(np.abs(values - expected).max())
            allowed = _TOLERANCE[name] * max(1.0, float(np.abs(expected).max()))
            if not difference <= allowed:
                raise Failure(f"the exported {name} differs by {difference:.2g} from PyTorch, {allowed:.2g} is allowed")
            largest[name] = max(largest[name], difference)
    return largest


def _predict(loaded: LoadedModel, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Return what PyTorch says, by the names of the outputs."""
    with torch.inference_mode():
        predicted = loaded.model(torch.from_numpy(images))
    if loaded.stage.name != "finetune":
        return {"heatmap": predicted.numpy()}
    heatmap, joints_3d = (tensor.numpy() for tensor in predicted[:2])  # the third, the reconstruction, is not exported
    found = {"heatmap": heatmap, "joints_3d": joints_3d}
    return found if loaded.head is None else found | {"joints_3d_camera": loaded.head.place(joints_3d)}


def generated_frames(count: int, size: int) -> NDArray[np.uint8]:
    """Return (count, 3, size, size) uint8 RGB."""
    renderer = Renderer()
    frames = FrameGenerator("male_008_a_a", 1, count, 0).frames(1, count)
    images = [renderer.render(frame.scene).color[:, :, ::-1] for frame in frames]
    return np.stack([resize(cut(image, "square"), size) for image in images]).transpose(0, 3, 1, 2)


def _check_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX needs {' and '.join(missing)}: pip install onnx onnxruntime onnxscript, or take .pt2")


def _write_onnx(loaded: LoadedModel, outputs: Sequence[str], path: Path) -> None:
    import onnx  # noqa: PLC0415

    exported = torch.onnx.export(
        Exported(loaded),
        (_example(loaded),),
        input_names=["image"],
        output_names=outputs,
        dynamic_shapes=_DYNAMIC,
        opset_version=_OPSET,
        external_data=False,
        verbose=False,
    )
    assert exported is not None
    model = exported.model_proto
    onnx.helper.set_model_props(model, _metadata(loaded))
    onnx.save(model, path)


def _open_onnx(path: Path, outputs: Sequence[str]) -> Runtime:
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: dict(zip(outputs, session.run(outputs, {"image": images}), strict=True))


def _write_package(loaded: LoadedModel, outputs: Sequence[str], path: Path) -> None:
    program = torch.export.export(Exported(loaded), (_example(loaded),), dynamic_shapes=_DYNAMIC)
    content = io.BytesIO()  # torch wants a certain ending of a path, and aborts when a file fails
    torch.export.save(program, content, extra_files=_metadata(loaded) | {"outputs": json.dumps(outputs)})
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
    size = loaded.stage.image_size
    return torch.zeros(2, 3, size, size, dtype=torch.uint8)


def _metadata(loaded: LoadedModel) -> dict[str, str]:
    """Return what a user of the file must know, as it is written into it."""
    size, (left, top, side) = loaded.stage.image_size, XR_EGOPOSE.window(loaded.crop)
    frame = f"{XR_EGOPOSE.width}x{XR_EGOPOSE.height} frame"
    facts = {
        "checkpoint": str(loaded.source),
        "crop": loaded.crop,
        "image": f"{size}x{size} RGB of the {side}x{side} px of a {frame} at left {left}, top {top}, black beyond it",
        "heatmap_joints": json.dumps([JOINTS[joint] for joint in HEATMAP_JOINTS]),
        "joints_3d": f"{json.dumps(JOINTS)}, metres relative to Neck, {_AXES}",
    }
    if loaded.head is not None and "joints_3d_camera" in output_names(loaded):
        facts["joints_3d_camera"] = f"the same joints in the camera frame, metres, {_AXES}; Head lies at head.mean"
        facts["head"] = json.dumps({"mean": loaded.head.mean, "spread": loaded.head.spread, "unit": "metres"})
    return facts


if __name__ == "__main__":
    sys.exit(main())
