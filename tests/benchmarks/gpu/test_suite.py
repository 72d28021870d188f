"""The GPU suite on a CPU: it runs small, a step that fails is a line, and a run that is killed leaves its archive."""

import io
import json
import multiprocessing
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from benchmarks.gpu import journal
from benchmarks.gpu.journal import ARCHIVE, LINES, PAGE, Journal
from benchmarks.gpu.profiled import kind_of
from benchmarks.gpu.steps import steps
from benchmarks.gpu.work import count
from benchmarks.gpu_suite import main
from benchmarks.results import origin
from tests.shard_factory import make_shard_set
from tools.synthesize import main as synthesize


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """What --prepare makes, smaller."""
    folder = tmp_path_factory.mktemp("suite") / "data"
    make_shard_set(folder / "jpeg", {"train": 12, "val": 4}, image_size=64)
    sizes = ["--frames-per-subject", "4", "--eval-frames", "2", "--train-subjects", "1", "--val-subjects", "1"]
    flags = [*sizes, "--test-subjects", "0", "--modalities", "rgba", "json", "--workers", "1"]
    assert synthesize(["--output", str(folder / "dataset"), *flags]) == 0
    return folder


@pytest.mark.slow
def test_it_runs_small_without_a_gpu(data, tmp_path, capsys):
    wanted = ["ceilings", "loading: torch backend", "training: train3d", "profile: train2d", "loss falls: train3d"]
    assert main(["--data", str(data), "--out", str(tmp_path), "--steps", *wanted]) == 0
    shown = capsys.readouterr().out
    _, lines = journal.read(tmp_path)
    found = {line["step"]: line for line in lines}
    assert {line["status"] for line in lines if "reason" not in line} == {"done"}
    assert {line["reason"] for line in lines if line["status"] == "skipped"} == {"no GPU"}
    assert found["ceilings"]["figures"]["TFLOP/s"] > 0
    training = found["training: train3d bf16 eager"]["figures"]
    assert training["GFLOP per image"] > 0
    assert len(training["images/s"]) == len(training["images/s, cached batch"]) == 1
    profile = found["profile: train2d bf16 eager graph"]["figures"]
    assert sum(profile["ms per step by kind"].values()) == pytest.approx(profile["ms per step, kernels"])
    losses = found["loss falls: train3d bf16 default graph"]["figures"]["loss"]
    assert losses[-1] < losses[0]
    assert (tmp_path / PAGE).read_text() in shown
    assert main(["--read", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (tmp_path / PAGE).read_text()
    assert {LINES, PAGE} <= set(check_archive(tmp_path))


@pytest.mark.slow
def test_a_step_that_fails_is_a_line_and_not_the_end(tmp_path, data, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset").symlink_to(data / "dataset")
    make_shard_set(tmp_path / "data" / "jpeg", {"train": 12}, image_size=64)  # training needs val
    wanted = ["training: train3d", "ceilings", "loading: torch backend, augmented"]
    assert main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--steps", *wanted]) == 1
    found = {line["step"]: line for line in journal.read(tmp_path / "out")[1]}
    failed = found["training: train3d bf16 eager"]
    assert failed["status"] == "failed"
    assert "InputError" in failed["reason"]
    assert "Traceback" in (tmp_path / "out" / "logs" / "training--train3d-bf16-eager.log").read_text()
    assert found["loading: torch backend, augmented"]["status"] == "done"


def test_what_no_longer_fits_is_named(data, tmp_path):
    assert main(["--data", str(data), "--out", str(tmp_path), "--budget", "0"]) == 0
    lines = journal.read(tmp_path)[1]
    assert [line["step"] for line in lines] == ["frames", *(step.name for step in steps())]
    assert {line["status"] for line in lines[1:]} == {"skipped"}
    assert {line["reason"] for line in lines[1:]} == {"no GPU", "no time left"}


def test_killed_at_any_moment_it_leaves_a_readable_archive(tmp_path):
    """By SIGKILL, which nothing can answer, while lines follow each other as fast as they can."""
    moments = random.Random(0)
    began = origin("benchmarks.gpu_suite")
    for number in range(20):
        folder = tmp_path / str(number)
        writer = multiprocessing.get_context("fork").Process(target=write_forever, args=(folder, began))
        writer.start()
        while not (folder / ARCHIVE).exists():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.1))
        writer.kill()
        writer.join()
        members = check_archive(folder)
        lines = [json.loads(line) for line in members[LINES].splitlines()]
        assert lines[0]["hardware"]
        assert [line["figures"]["number"] for line in lines[1:]] == list(range(len(lines) - 1))


def write_forever(folder, began):
    found = Journal(folder, began)
    number = 0
    while True:
        (folder / "logs" / f"{number % 50}.log").write_bytes(random.randbytes(100_000))
        found.note("a step", "done", 1.0, figures={"number": number})
        number += 1


@pytest.mark.slow
def test_sigterm_ends_it_and_its_worker(data, tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu_suite", "--data", str(data), "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "logs").glob("*.log")):
        assert process.poll() is None
        time.sleep(0.05)
    workers = children_of(process.pid)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "Traceback" not in errors
    assert check_archive(tmp_path)[LINES]
    assert workers
    end = time.monotonic() + 10  # Python's own process, which watches over shared memory, notices it last
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.05)


def check_archive(folder):
    """Return the files of the archive by name, which must be whole and small."""
    packed = (folder / ARCHIVE).read_bytes()
    assert len(packed) < 16 * 2**20
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = {entry.name: archive.extractfile(entry).read() for entry in archive}
    assert not any(name.endswith((".tar", ".pt")) for name in members)
    return members


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_steps_have_names_of_their_own_and_fit_the_budget_by_worth():
    names = [step.name for step in steps()]
    assert len(set(names)) == len(names)
    assert names[:2] == ["ceilings", "GPU graph against CPU graph"]
    first = [
        step for step in steps() if step.name.startswith(("ceilings", "GPU graph", "training: train2d bf16 default"))
    ]
    assert sum(step.seconds for step in first) < 600


def test_work_is_that_of_the_networks():
    """ResNet-50 and its head at 368 px: 78 GFLOP an image, forward and backward."""
    found = count("train2d", "resnet50", 368, 8)
    assert found["GFLOP per image"] == pytest.approx(77.5, abs=0.1)
    assert count("train3d", "resnet50", 368, 256)["GFLOP per image"] == pytest.approx(1.23, abs=0.01)


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64", "matrix products"),
        ("nvjet_sm90_tst_128x192_64x5_2x1_v_bz_coopB_TNN", "matrix products"),
        ("void at::native::batch_norm_collect_statistics_channels_last_kernel<at::native::Var>", "batch norm"),
        ("triton_red_fused__native_batch_norm_legit_functional_14", "fused by the compiler"),
        ("void at::native::multi_tensor_apply_kernel<FusedOptimizerTensorListMetadata<4>>", "optimizer"),
        ("void at::native::vectorized_elementwise_kernel<8, CUDAFunctor_add<c10::BFloat16>>", "elementwise"),
        ("Memcpy HtoD (Pinned -> Device)", "copies"),
        ("something new", "others"),
    ],
)
def test_kernels_have_kinds(kernel, kind):
    assert kind_of(kernel) == kind
