"""Exported networks compute what PyTorch computes, at any batch size, without this project's code."""

import json
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engine.infer import load_model
from models.xr_egopose import HEAD, JOINTS, SKELETON
from tests.checkpoint_factory import make_checkpoint
from tests.engine.window_stage import as_stage, train_window_stage
from tools import export
from tools.convert_checkpoint import main as convert
from tools.export import generated_frames, main

pytestmark = pytest.mark.slow

MEAN = (-0.007, -0.187, 0.047)
"""Where the head is (metres)."""


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pt")


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    """A network that knows where the head is, trained on the whole lens."""
    preprocessing = {"crop": "lens", "image_size": 64, "format": "png", "quality": None}
    path = tmp_path_factory.mktemp("placed") / "best.pt"
    return make_checkpoint(path, head={"mean": MEAN, "spread": (0.0, 0.5, 0.0)}, preprocessing=preprocessing)


def run(checkpoint, output):
    return main(["--checkpoint", str(checkpoint), "--output", str(output)])


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory, finetuned):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    assert run(finetuned, path) == 0
    return path


def test_onnx_gives_the_pose_of_the_images(capsys, finetuned, onnx_file):
    frames = generated_frames(3, 64)
    assert frames.std() > 30
    session = onnxruntime.InferenceSession(onnx_file)
    heatmap, joints_3d = session.run(["heatmap", "joints_3d"], {"image": frames})
    assert heatmap.shape == (3, 15, 8, 8)
    expected = load_model(finetuned, device="cpu", precision="fp32")(frames.transpose(0, 2, 3, 1)).joints_3d
    np.testing.assert_allclose(joints_3d, expected, rtol=1e-4, atol=1e-4)
    alone = session.run(["joints_3d"], {"image": frames[1:2]})[0]
    np.testing.assert_allclose(alone[0], joints_3d[1], rtol=1e-4, atol=1e-4)


def test_onnx_says_what_it_takes_and_gives(onnx_file):
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [23]
    (image,) = model.graph.input
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["batch", 3, 64, 64]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(facts["heatmap_joints"]) == [JOINTS[joint] for joint in SKELETON.heatmap_joints]
    assert "metres relative to Neck" in facts["joints_3d"]
    assert facts["crop"] == "square"
    assert "joints_3d_camera" not in facts  # the checkpoint does not know where the head is
    # the branch that only training needs is gone
    assert not [tensor.name for tensor in model.graph.initializer if "b2_" in tensor.name]


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_the_pose_in_the_camera_frame_is_a_third_output(tmp_path, capsys, placed, ending):
    path = tmp_path / f"model.{ending}"
    assert run(placed, path) == 0
    assert "gives heatmap and joints_3d and joints_3d_camera\n" in capsys.readouterr().out
    frames = generated_frames(2, 64)
    if ending == "onnx":
        session = onnxruntime.InferenceSession(path)
        _, joints_3d, in_camera = session.run(None, {"image": frames})
        facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    else:
        facts = {"crop": "", "image": "", "head": "", "joints_3d_camera": ""}
        network = torch.export.load(path, extra_files=facts).module()
        _, joints_3d, in_camera = (values.detach().numpy() for values in network(torch.from_numpy(frames)))
    expected = load_model(placed, device="cpu", precision="fp32")(frames.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(in_camera, expected.joints_3d_camera, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(in_camera[:, HEAD], [MEAN, MEAN], atol=1e-6)
    np.testing.assert_allclose(in_camera - in_camera[:, :1], joints_3d - joints_3d[:, :1], rtol=1e-4, atol=1e-5)
    assert facts["crop"] == "lens"
    assert "64x64 RGB of the 921x921 px of a 1280x800 frame at left 195, top -59" in facts["image"]
    assert json.loads(facts["head"]) == {"mean": list(MEAN), "spread": [0.0, 0.5, 0.0], "unit": "metres"}
    assert "in the camera frame, metres, x right, y down" in facts["joints_3d_camera"]


@pytest.fixture(scope="module")
def sees_windows(tmp_path_factory):
    return train_window_stage(tmp_path_factory.mktemp("windows"))


def opened(path):
    """Return an exported network as a function from images to its outputs, and what the file says."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path)
        facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        return lambda images: session.run(None, {"image": images}), facts
    facts = dict.fromkeys(("window", "stride", "outputs"), "")
    network = torch.export.load(path, extra_files=facts).module()
    return lambda images: [values.detach().numpy() for values in network(torch.from_numpy(images))], facts


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_windows_of_a_stage_of_ones_own(tmp_path, capfd, sees_windows, ending):
    """They are what `load_model` makes of consecutive frames, in batches of any size, with the stage's constants."""
    path = tmp_path / f"model.{ending}"
    shifted = as_stage(sees_windows, "Shifted", tmp_path / "shifted.pt")
    capfd.readouterr()
    assert run(shifted, path) == 0
    said = capfd.readouterr()
    assert "uint8 (batch, 3, 3, 64, 64) RGB, window 3 frames, stride 2, the last one is predicted; gives" in said.out
    assert "gives joints_3d and joints_3d_camera\n" in said.out
    assert not said.err
    network, facts = opened(path)
    assert facts["window"].startswith("3 frames of one recording")
    assert facts["stride"].startswith("2 frames from one to the next")
    assert "heatmap_joints" not in facts
    frames = generated_frames(7, 64)
    windows = np.stack([frames[[max(0, i - 4), max(0, i - 2), i]] for i in range(7)])
    expected = load_model(shifted, device="cpu", precision="fp32")(frames.transpose(0, 2, 3, 1))
    for chosen in (slice(None), slice(5, 6)):
        joints_3d, in_camera = network(windows[chosen])
        np.testing.assert_allclose(joints_3d, expected.joints_3d[chosen], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(in_camera, expected.joints_3d_camera[chosen], rtol=1e-4, atol=1e-5)
    plain = load_model(sees_windows, device="cpu", precision="fp32")(frames.transpose(0, 2, 3, 1))
    shift = np.linspace(-1, 1, 48).reshape(16, 3)
    np.testing.assert_allclose(expected.joints_3d, plain.joints_3d + shift, atol=1e-5)


@pytest.mark.parametrize(
    "case",
    [
        ("Peeking", r"own\.py:Peeking uses labels to predict, or is not finite"),
        ("Silent", r"own\.py:Silent checkpoint, which predicts neither heatmaps nor poses"),
        ("WithDepth", r"own\.py:WithDepth checkpoint, which takes depth and rot beside images"),
        ("Branching", r"cannot be exported to \.{ending} \(\w+: Could not guard .*\): try .*/model\.{other}$"),
    ],
)
@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_stages_that_cannot_be_exported_are_refused_in_one_line(tmp_path, capfd, sees_windows, case, ending):
    name, said = case
    path, other = as_stage(sees_windows, name, tmp_path / "other.pt"), {"onnx": "pt2", "pt2": "onnx"}[ending]
    capfd.readouterr()
    assert run(path, tmp_path / f"model.{ending}") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(said.format(ending=ending, other=other), line), line
    assert [found.name for found in tmp_path.iterdir()] == ["other.pt"]


def test_files_hold_what_predicting_needs_and_no_more(tmp_path, placed, onnx_file):
    assert run(placed, tmp_path / "model.pt2") == 0
    names = torch.export.load(tmp_path / "model.pt2").state_dict.keys()
    lifting = {name.split(".")[2] for name in names if name.startswith("model.lifting_net.")}
    assert lifting == {*(f"{kind}{i}" for kind in ("conv", "fc", "b1_fc") for i in (1, 2, 3))}
    assert {name.split(".")[0] for name in names} == {"model", "head"}  # none of the loss's constants
    for path in (tmp_path / "model.pt2", onnx_file):
        assert b"tools/export.py" not in path.read_bytes()  # where the code lay is nobody's business


def test_a_package_runs_without_our_code(tmp_path, finetuned):
    assert run(finetuned, tmp_path / "model.pt2") == 0
    np.save(tmp_path / "frames.npy", generated_frames(2, 64))
    program = (
        "import numpy, torch\n"
        "network = torch.export.load('model.pt2').module()\n"
        "heatmap, joints_3d = network(torch.from_numpy(numpy.load('frames.npy')))\n"
        "numpy.save('joints.npy', joints_3d.detach().numpy())"
    )
    subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, check=True)
    frames = np.load(tmp_path / "frames.npy")
    expected = load_model(finetuned, device="cpu", precision="fp32")(frames.transpose(0, 2, 3, 1)).joints_3d
    np.testing.assert_allclose(np.load(tmp_path / "joints.npy"), expected, rtol=1e-4, atol=1e-4)


def test_heatmaps_alone(tmp_path, capsys):
    half = make_checkpoint(tmp_path / "2d.pt", "train2d")
    assert run(half, tmp_path / "model.onnx") == 0
    said = capsys.readouterr().out
    assert "gives heatmap\n" in said
    (output,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_outputs()
    assert output.name == "heatmap"


def test_a_network_that_came_out_wrong_is_not_kept(tmp_path, capsys, monkeypatch, finetuned):
    forward = export.Exported.forward
    monkeypatch.setattr(export.Exported, "forward", lambda self, image: tuple(1.01 * x for x in forward(self, image)))
    assert run(finetuned, tmp_path / "model.pt2") == 1
    assert "differs by" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, monkeypatch, finetuned):
    (tmp_path / "there.onnx").touch()
    lifting = make_checkpoint(tmp_path / "3d.pt", "train3d")
    cases = (
        (finetuned, "there.onnx", "exists: remove it"),
        (finetuned, "model.pth", "ends in neither of .onnx, .pt2"),
        (lifting, "model.onnx", "is a train3d checkpoint, which takes no images: give one"),
        (tmp_path / "absent.pt", "model.onnx", "does not exist"),
    )
    for checkpoint, output, complaint in cases:
        assert run(checkpoint, tmp_path / output) == 2
        assert complaint in capsys.readouterr().err
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    assert run(finetuned, tmp_path / "model.onnx") == 2
    assert "pip install onnx onnxruntime onnxscript, or" in capsys.readouterr().err


def test_reference_checkpoints(tmp_path, finetuned):
    assert convert(["--input", str(finetuned), "--output", str(tmp_path / "theirs.pth")]) == 0
    assert run(tmp_path / "theirs.pth", tmp_path / "model.onnx") == 0
    assert torch.load(tmp_path / "theirs.pth", weights_only=True).keys() == {
        "resnet_state_dict",
        "autoencoder_state_dict",
    }
