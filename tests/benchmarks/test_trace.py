"""Where a step's time goes, by its trace."""

import gzip
import json

import pytest

from benchmarks.trace import account, describe, kind_of, main
from tests.engine.training_runs import flags, run
from tests.shard_factory import make_shard_set


def event(name, ts, dur, cat, tid=1):
    return {"ph": "X", "name": name, "ts": ts, "dur": dur, "cat": cat, "tid": tid}


def test_kernels_gaps_and_ranges():
    """Two steps of 10 ms; in each a convolution of 4 ms, BatchNorm of 2 ms beside its last ms, and 5 ms of nothing."""
    events = []
    for step in (0, 10_000):
        events += [
            event(f"ProfilerStep#{step}", step, 10_000, "user_annotation"),
            event("data", step, 500, "user_annotation"),
            event("forward", step + 500, 3000, "user_annotation"),
            event("sm90_xmma_fprop_implicit_gemm_bf16", step + 1000, 4000, "kernel"),
            event("cudnn::bn_fw_tr_1C11", step + 4000, 2000, "kernel", 2),
            event("aten::conv2d", step + 500, 100, "cpu_op"),
        ]
    events.append(event("before the steps", -5000, 4000, "kernel"))
    found = account(events)
    assert (found.steps, found.step, found.busy) == (2, 10.0, 5.0)
    assert found.kinds == {"convolution": 4.0, "BatchNorm": 2.0}
    assert found.ranges == {"data": 0.5, "forward": 3.0}
    assert "| nothing runs" in describe(found)
    assert "50.0%" in describe(found)


def test_on_a_cpu_an_operator_counts_without_those_it_calls():
    events = [
        event("ProfilerStep#1", 0, 1000, "user_annotation"),
        event("aten::linear", 0, 500, "cpu_op"),
        event("aten::addmm", 100, 300, "cpu_op"),
        event("aten::relu", 600, 100, "cpu_op"),
        event("aten::relu", 0, 100, "cpu_op", tid=2),
    ]
    found = account(events)
    assert found.kinds == pytest.approx({"matrix product": 0.5, "elementwise": 0.2})
    assert found.busy == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ncclDevKernel_AllReduce_Sum_bf16", "communication"),
        ("Memcpy HtoD (Pinned -> Device)", "copy"),
        ("void at::native::multi_tensor_apply_kernel<FusedAdam>", "optimizer"),
        ("void cudnn::batchnorm_bwtr_nhwc_semiPersist", "BatchNorm"),
        ("sm90_xmma_wgrad_implicit_gemm_indexed_bf16", "convolution"),
        ("nvjet_hsh_128x256_gemm", "matrix product"),
        ("triton_poi_fused_relu_0", "elementwise"),
        ("max_pool_forward_nhwc", "pooling"),
        ("something else", "other"),
    ],
)
def test_kinds(name, kind):
    assert kind_of(name) == kind


def test_a_real_trace(tmp_path, monkeypatch, capsys):
    shards = make_shard_set(tmp_path / "shards", {"train": 16, "val": 2}, image_size=64)
    arguments = flags(shards, tmp_path / "run", "train2d", "--epochs", "5", "--profile")
    assert run(monkeypatch, *arguments) == 0
    capsys.readouterr()
    assert main(["--trace", str(tmp_path / "run" / "profile.json.gz")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("5 steps of ")
    assert {"convolution", "BatchNorm", "data", "forward", "backward", "optimizer"} <= {
        line.split("|")[1].strip() for line in said.splitlines() if line.startswith("|")
    }


@pytest.mark.parametrize("content", [None, b"{}", b"no JSON", b"\x1f\x8b cut"], ids=["absent", "plain", "text", "cut"])
def test_what_is_no_trace(tmp_path, capsys, content):
    path = tmp_path / "profile.json.gz"
    if content is not None:
        path.write_bytes(content)
    assert main(["--trace", str(path)]) == 2
    assert ("No such file" if content is None else "is no trace") in capsys.readouterr().err
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": []}).encode()))
    assert main(["--trace", str(path)]) == 2
    assert "holds no steps" in capsys.readouterr().err
