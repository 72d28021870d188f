"""Two hosts, as far as one machine can be two: names that mislead, and a cable that is pulled out."""

import json
import os
import sys
import time

import pytest

from engine.checkpoint import format as checkpoint
from tests.engine.training_runs import flags, read_metrics
from tests.hosts import CABLE, two_hosts
from tests.shard_factory import make_shard_set

pytestmark = [pytest.mark.slow, pytest.mark.network]

OWN_ADDRESS = "127.0.1.1"
"""What Debian's installer writes beside a machine's own name."""
STEPS = 60


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("hosts") / "shards", {"train": 18, "val": 5}, image_size=64)


def start(host, arguments, output, **environment):
    """Start a node of a training of two, as docs/multi-node.md says."""
    launcher = ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "2"]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "node0:29500", "--rdzv-id", "two-hosts"]
    command = [sys.executable, "-m", "torch.distributed.run", *launcher, "engine/train.py", *arguments]
    with output.open("w") as file:
        return host.start(command, stdout=file, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)


def wait_until(condition, nodes, outputs):
    while not condition():
        for node, output in zip(nodes, outputs, strict=True):
            assert node.poll() is None, output.read_text()
        time.sleep(0.1)


def said_on(outputs):
    return "\n".join(f"--- {output.name}\n{output.read_text()}" for output in outputs)


def test_a_host_name_that_leads_to_loopback_is_told_with_the_remedy(tmp_path, shards):
    arguments = flags(shards, tmp_path / "run", "train3d", "--distributed.timeout", "20")
    outputs = [tmp_path / "node0.log", tmp_path / "node1.log"]
    with two_hosts(tmp_path, own_address=OWN_ADDRESS) as hosts:
        nodes = [start(host, arguments, output) for host, output in zip(hosts, outputs, strict=True)]
        wait_until(lambda: "cannot connect" in outputs[1].read_text(), nodes, outputs)
    line = next(line for line in outputs[1].read_text().splitlines() if line.startswith("train: error: "))
    assert "process 1 of 2 on node1 cannot connect to the others" in line
    assert f"The address that it offers them is {OWN_ADDRESS}, from its host name" in line
    assert "set GLOO_SOCKET_IFNAME, and NCCL_SOCKET_IFNAME for GPUs, on every node" in line
    assert f"to the interface between the nodes, here {CABLE} (10.91.0.2)" in line


def test_a_cable_pulled_out_is_told_by_both_hosts_and_training_goes_on_when_it_is_back(tmp_path, shards):
    run_dir, outputs = tmp_path / "run", [tmp_path / "node0.log", tmp_path / "node1.log"]
    more = ("--max-steps", str(STEPS), "--epochs", "1000", "--data.batch-size", "2", "--validate-every", "1000")
    more += ("--checkpoint.every", "3", "--distributed.timeout", "5")
    arguments, logs = flags(shards, run_dir, "train3d", *more), [run_dir / f"errors/rank-{rank}.log" for rank in (0, 1)]
    with two_hosts(tmp_path, own_address=OWN_ADDRESS) as hosts:
        nodes = [
            start(host, arguments, output, GLOO_SOCKET_IFNAME=CABLE, TORCH_ELASTIC_SHUTDOWN_TIMEOUT="3")
            for host, output in zip(hosts, outputs, strict=True)
        ]
        wait_until(lambda: len(read_metrics(run_dir / "metrics.jsonl")) > 5, nodes, outputs)
        assert not (run_dir / "errors").exists()
        hosts[1].unplug()
        wait_until(lambda: all(log.exists() for log in logs), nodes, outputs)
        reached = checkpoint.load(run_dir / "last.pt").step
        before = (run_dir / "metrics.jsonl").read_text().splitlines()
        hosts[1].plug()
        for node in nodes:
            assert node.wait(120) == 0, said_on(outputs)
    told = [log.read_text() for log in logs]
    assert "host: node0\nprocess: 0 of 2" in told[0]
    assert "process 1 of 2 on node1 did not answer within 5 s" in told[0]
    assert "host: node1\nprocess: 1 of 2" in told[1]
    assert "process 1 of 2 on node1 reaches neither the other processes nor node0, where the nodes meet" in told[1]
    for log, output in zip(logs, outputs, strict=True):
        assert str(log) in output.read_text()
    assert 3 <= reached < STEPS
    assert json.loads((run_dir / "summary.json").read_text())["steps"] == STEPS
    after = (run_dir / "metrics.jsonl").read_text().splitlines()
    kept = [line for line in before if json.loads(line)["step"] <= reached]
    assert after[: len(kept)] == kept  # with the speed of then: it went on, and did not begin anew
