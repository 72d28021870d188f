import pytest
import torch

from engine import checkpoint
from loaders import InputError


def test_a_checkpoint_comes_back(tmp_path):
    path = tmp_path / "last.pt"
    content = {"step": 3, "model": {"heatmap_net": {"a": torch.arange(5)}}, "best": float("inf")}
    checkpoint.save(path, content)
    loaded = checkpoint.load(path)
    assert loaded["step"] == 3
    assert torch.equal(loaded["model"]["heatmap_net"]["a"], torch.arange(5))
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        checkpoint.load(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match="cannot be read"):
        checkpoint.load(tmp_path / "text.pt")
    checkpoint.save(tmp_path / "cut.pt", {"model": {"x": {"w": torch.zeros(1000)}}})
    data = (tmp_path / "cut.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        checkpoint.load(tmp_path / "cut.pt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    with pytest.raises(InputError, match="neither"):
        checkpoint.load(tmp_path / "foreign.pt")
    checkpoint.save(tmp_path / "old.pt", {"version": 0})
    with pytest.raises(InputError, match="version 0"):
        checkpoint.load(tmp_path / "old.pt")
    with pytest.raises(InputError, match="holds no lifting_net, only heatmap_net"):
        checkpoint.save(tmp_path / "2d.pt", {"model": {"heatmap_net": {}}})
        checkpoint.load_network(tmp_path / "2d.pt", "lifting_net")
