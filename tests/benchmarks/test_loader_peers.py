"""Every way that `benchmarks.loader` measures delivers the right images with the right labels."""

import itertools
import time

import numpy as np
import pytest
import torch

from benchmarks import data, loader
from benchmarks.peers import common
from benchmarks.peers.candidates import Setup
from benchmarks.peers.dali_reader import dali_reader
from benchmarks.peers.datago_client import datago_client
from benchmarks.peers.grain_loader import grain_loader
from benchmarks.peers.litdata_loader import litdata_loader
from benchmarks.peers.mosaicml_loader import mosaicml_loader
from benchmarks.peers.reference_way import reference_way
from benchmarks.peers.spdl_pipeline import spdl_pipeline
from benchmarks.peers.torch_dataloader import torch_dataloader
from benchmarks.peers.webdataset_loader import webdataset_loader
from loaders import DataConfig, ShardSet, build_loader
from models.heatmaps import HeatmapEncoder, select_heatmap_joints
from models.xr_egopose import SKELETON
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow

SAMPLES, BATCH, SIDE = 12, 4, 64
TOLERANCE = 3.5
"""Between decoders, and between ways to interpolate color (mean gray levels)."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return {
        form: make_shard_set(root / form, {"train": SAMPLES}, image_size=SIDE, image_format=form)
        for form in ("jpeg", "raw")
    }


def images_by_frame(root):
    """Our own loader's images, (3, H, W) float64, by frame number."""
    ours = build_loader(DataConfig(shards=root, batch_size=SAMPLES, backend="torch", threads=1), "train")
    (batch,) = ours
    ours.close()
    return dict(zip(batch.meta[:, 2].tolist(), batch.image.double().numpy(), strict=True))


def frames_of(meta):
    """The frame numbers in stored ``meta.npy`` members: bytes, rows of bytes, or DALI's list of arrays."""
    rows = meta.as_array() if hasattr(meta, "as_array") else meta
    return [int(np.frombuffer(bytes(row)[-16:], "<i4")[2]) for row in rows]


def check(batches, root, dtype, count, *, channels_last=False, exact=False):
    """Compare ``count`` batches with our own loader's images; return the frame numbers seen."""
    expected = images_by_frame(root)
    seen = []
    for delivered, pose, meta in itertools.islice(batches.stream, count):
        image = delivered.permute(0, 3, 1, 2) if channels_last else delivered
        assert image.shape == (BATCH, 3, SIDE, SIDE)
        assert image.dtype == getattr(torch, dtype)
        if dtype == "float32":
            assert image.is_contiguous()
            assert image.min() >= -1
            assert image.max() <= 1
        levels = (image.double() + 1) * 127.5 if dtype == "float32" else image.double()
        frames = frames_of(meta)
        assert len(frames) == len(pose) == BATCH
        for frame, found in zip(frames, levels.numpy(), strict=True):
            assert np.abs(found - expected[frame]).mean() < (1e-4 if exact else TOLERANCE)
        seen += frames
    return seen


def test_samples_can_be_told_apart(sets):
    for root in sets.values():
        pairs = itertools.combinations(images_by_frame(root).values(), 2)
        assert min(np.abs(one - other).mean() for one, other in pairs) > 3 * TOLERANCE


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_dali_reader(sets, dtype):
    pytest.importorskip("nvidia.dali")
    cpu = torch.device("cpu")
    with dali_reader(sets["jpeg"], BATCH, 2, device=cpu, dtype=dtype, seed=0) as batches:
        # a buffer larger than the set mixes epochs: not every sample comes once
        assert len(set(check(batches, sets["jpeg"], dtype, 6, channels_last=dtype == "uint8"))) > BATCH


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("way", [torch_dataloader, webdataset_loader])
def test_worker_processes(sets, way, dtype):
    # whole epochs of webdataset are a matter of each worker: with one they are the set's
    workers = 1 if way is webdataset_loader else 2
    with way(sets["jpeg"], BATCH, workers, dtype=dtype, seed=0) as batches:
        assert batches.at_once == workers
        check_epochs(batches, sets["jpeg"], dtype)


def check_epochs(batches, root, dtype, *, exact=True):
    """Two epochs, each in an order of its own."""
    orders = [check(batches, root, dtype, SAMPLES // BATCH, channels_last=dtype == "uint8", exact=exact) for _ in "ab"]
    assert all(sorted(order) == list(range(1, SAMPLES + 1)) for order in orders)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("way", "module"), [(litdata_loader, "litdata"), (mosaicml_loader, "streaming")])
def test_copies_in_their_own_format(sets, tmp_path, way, module, dtype):
    pytest.importorskip(module)
    for _ in range(2):  # makes the copy, takes it
        with way(sets["jpeg"], tmp_path / "copy", BATCH, 1, dtype=dtype, seed=0) as batches:
            check_epochs(batches, sets["jpeg"], dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_datago(sets, tmp_path, dtype):
    pytest.importorskip("datago")
    with datago_client(sets["jpeg"], tmp_path / "copy", BATCH, dtype=dtype) as batches:
        check_epochs(batches, sets["jpeg"], dtype, exact=False)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("way", "module"), [(spdl_pipeline, "spdl.pipeline"), (grain_loader, "grain")])
def test_threads(sets, way, module, dtype):
    pytest.importorskip(module)
    threads = torch.get_num_threads()
    with way(sets["jpeg"], BATCH, 1, dtype=dtype, seed=0) as batches:
        check_epochs(batches, sets["jpeg"], dtype)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("storage", ["jpeg", "raw"])
@pytest.mark.parametrize(("dtype", "one_pass"), [("uint8", False), ("float32", False), ("float32", True)])
def test_ffcv(sets, tmp_path, storage, dtype, one_pass):
    pytest.importorskip("ffcv")
    threads = torch.get_num_threads()
    ffcv = common.import_ffcv_reader()
    assert torch.get_num_threads() == threads
    path = tmp_path / "file.beton"
    ffcv.write_beton(sets[storage], path, samples=8, workers=1)
    if storage == "jpeg":
        first = ShardSet(sets[storage], "train").member(0, "rgba.jpg").tobytes()
        assert first in path.read_bytes()
    options = {"dtype": dtype, "one_pass": one_pass, "seed": 0}
    # an epoch of 16 from 8 samples: each comes twice
    with ffcv.ffcv_reader(path, 16, BATCH, 2, **options) as batches:
        seen = check(batches, sets[storage], dtype, 4)
        assert sorted(seen) == sorted([*range(1, 9)] * 2)
        assert check(batches, sets[storage], dtype, 4) != seen
    # closed when three batches wait for room and the epoch is through
    with ffcv.ffcv_reader(path, 16, BATCH, 2, **options) as batches:
        next(batches.stream)
        time.sleep(0.5)
    assert torch.get_num_threads() == threads


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    return data.generate(data.DataFlags(frames=4, repeat=1), folder, storages=("jpeg", "raw"))


def test_reference_way(generated):
    pytest.importorskip("skimage")
    ours = build_loader(DataConfig(shards=generated.raw, batch_size=4, backend="torch"), "train")
    (expected,) = ours
    ours.close()
    with reference_way(generated.dataset, 2, 2, seed=0) as batches:
        found = list(itertools.islice(batches.stream, 2))
    image, heatmaps, joints_3d = (torch.cat(parts) for parts in zip(*found, strict=True))
    assert (image.shape, image.dtype) == ((4, 3, 368, 368), torch.float32)
    assert -1 <= image.min() < image.max() <= 1
    distance = joints_3d[:, None] - expected.joints_3d[None]
    which = distance.abs().amax((2, 3)).argmin(1)
    assert sorted(which.tolist()) == [0, 1, 2, 3]
    assert distance.abs().amax((2, 3)).amin(1).max() < 1e-4
    # its labels count from a pixel's corner, ours from its center
    joints_2d = select_heatmap_joints(expected.joints_2d[which], SKELETON) + 0.5 * (1 - 368 / 800)
    torch.testing.assert_close(heatmaps, HeatmapEncoder(368, 48, quantized=True)(joints_2d), atol=1e-6, rtol=0)
    # its filter is a little wider than the area of a pixel
    assert ((image + 1) * 127.5 - expected.image[which].float()).abs().mean() < 4


def test_grain_makes_jpegs_as_large_as_real_ones(generated):
    assert 60e3 < loader.mean_image(generated.jpeg, 4) < 80e3


def test_grain_is_seeded_and_left_to_training(tmp_path):
    data.synthesize(tmp_path / "smooth", 4)

    def copy(name, **options):
        root = tmp_path / name
        for path in (tmp_path / "smooth").rglob("*.*"):
            (root / path.relative_to(tmp_path / "smooth")).parent.mkdir(parents=True, exist_ok=True)
            (root / path.relative_to(tmp_path / "smooth")).write_bytes(path.read_bytes())
        data.add_grain(root, 5.0, **options)
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*.*") if path.is_file()}

    one, same, other = copy("one"), copy("same"), copy("other", seed=1)
    assert one == same
    changed = {path for path in one if one[path] != other[path]}
    assert changed == {path for path in one if path.parts[0] == "TrainSet" and path.suffix == ".png"}


def test_what_lacks_its_data_says_so(sets, tmp_path):
    setup = Setup(loader.LoaderFlags(frames=4), data.Frames(sets["jpeg"]), tmp_path, 1)
    absent = {one.name: one.reason_absent() for one in loader.candidates(setup)}
    assert absent["ours torch raw, uint8"] == "no raw shards given"
    assert "--dataset" in absent["reference way, float32"]
    assert absent["torch DataLoader, float32"] == ""


def test_every_target_names_candidates(sets, tmp_path):
    setup = Setup(loader.LoaderFlags(frames=4), data.Frames(sets["jpeg"]), tmp_path, 1)
    names = [one.name for one in loader.candidates(setup)]
    assert len(set(names)) == len(names)
    best = {row.what: row for row in loader.targets(names)}
    assert len(best) == len(loader.targets(names))
    assert all({*row.of, *row.over} <= set(names) for row in best.values())
    # each other loader is held against, and like for like
    held = {name for row in best.values() for name in row.over if not name.startswith("ours")}
    assert {name for name in names if not name.startswith(("ours", "training thread"))} == held
    floats = best["best backend, JPEG by the fast DCT to float32, over FFCV JPEG"]
    assert set(floats.over) == {"FFCV JPEG, float32", "FFCV JPEG + one-pass normalizer, float32"}
    assert floats.of == ["ours dali, fast DCT, float32", "ours torch, fast DCT, float32"]
    assert best["best backend, raw to uint8, over FFCV raw"].over == ["FFCV raw, uint8"]
    assert best["best backend, JPEG to uint8, over Grain"].of == ["ours dali, uint8", "ours torch, uint8"]


def test_frames_need_shards(capsys):
    assert loader.main(["--dataset", "frames"]) == 2
    assert "--dataset needs --shards" in capsys.readouterr().err
