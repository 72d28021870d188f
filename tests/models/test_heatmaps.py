import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.camera import IN_IMAGE, IN_LENS, UNSEEN
from models.heatmaps import HeatmapEncoder, decode_heatmaps, select_heatmap_joints
from models.xr_egopose import JOINTS, SKELETON


def reference_heatmap(u, v, image_size, size, sigma=2):
    """The reference recipe's loop, written from its description."""
    stride = image_size / size
    center_x, center_y = int(u / stride + 0.5), int(v / stride + 0.5)
    heatmap = np.zeros((size, size))
    reach = 3 * sigma
    for y in range(max(0, center_y - reach), min(size, center_y + reach + 1)):
        for x in range(max(0, center_x - reach), min(size, center_x + reach + 1)):
            heatmap[y, x] = np.exp(-((x - center_x) ** 2 + (y - center_y) ** 2) / (2 * sigma**2))
    return heatmap


@given(st.floats(-120, 480), st.floats(-120, 480))
def test_quantized_targets_are_the_references(u, v):
    heatmaps = HeatmapEncoder(368, 48, quantized=True)(torch.tensor([[[u, v]]], dtype=torch.float64))
    np.testing.assert_allclose(heatmaps[0, 0].numpy(), reference_heatmap(u, v, 368, 48), atol=1e-6)


def test_the_window_has_13_cells_a_side():
    heatmaps = HeatmapEncoder(368, 48, quantized=True)(torch.tensor([[[184.0, 184.0]]]))
    assert int((heatmaps > 0).sum()) == 13 * 13
    assert float(heatmaps.max()) == 1


def test_a_joint_far_outside_leaves_its_map_empty():
    joints = torch.tensor([[[-200.0, 100.0], [100.0, 900.0], [100.0, 100.0]]])
    for quantized in (True, False):
        heatmaps = HeatmapEncoder(368, 48, quantized=quantized)(joints)
        assert (heatmaps.amax((2, 3)) > 0).tolist() == [[False, False, True]]


@pytest.mark.parametrize("quantized", [True, False])
def test_what_the_lens_does_not_show_has_an_empty_map(quantized):
    encoder = HeatmapEncoder(128, 16, quantized=quantized)
    joints = torch.rand(2, 3, 2) * 100 + 10
    visible = torch.tensor([[UNSEEN, IN_LENS, IN_IMAGE], [IN_IMAGE, UNSEEN, UNSEEN]], dtype=torch.uint8)
    drawn = encoder(joints, visible)
    assert (drawn.amax((2, 3)) > 0).tolist() == [[False, True, True], [True, False, False]]
    shown = visible != UNSEEN
    assert torch.equal(drawn[shown], encoder(joints)[shown])


@given(st.floats(20, 107), st.floats(20, 107))
def test_exact_targets_are_gaussians_of_the_cells_distance_to_the_joint(u, v):
    heatmaps = HeatmapEncoder(128, 16)(torch.tensor([[[u, v]]]))[0, 0]
    for y, x in ((4, 5), (8, 8), (11, 6)):
        # the middle of cell i lies at pixel 8 i + 3.5
        dx, dy = (x * 8 + 3.5 - u) / 8, (y * 8 + 3.5 - v) / 8
        inside = max(abs(dx), abs(dy)) <= 6
        assert heatmaps[y, x] == pytest.approx(np.exp(-(dx**2 + dy**2) / 8) if inside else 0, abs=1e-5)


@pytest.mark.parametrize(("image_size", "size"), [(128, 16), (368, 48), (96, 12)])
def test_decoding_inverts_encoding(image_size, size):
    joints = torch.rand(20, 15, 2, generator=torch.Generator().manual_seed(0)) * image_size * 0.8 + image_size * 0.1
    found, height = decode_heatmaps(HeatmapEncoder(image_size, size)(joints), image_size)
    torch.testing.assert_close(found, joints, atol=0.01, rtol=0)
    assert (height > 0.8).all()


def test_decoded_joints_lie_on_the_map():
    found, _ = decode_heatmaps(torch.randn(4, 15, 16, 16), 128)
    assert (found >= -0.5).all()
    assert (found <= 127.5).all()


def test_the_joints_of_heatmaps_are_all_but_the_head():
    joints = torch.arange(2 * len(JOINTS) * 3).reshape(2, len(JOINTS), 3)
    assert torch.equal(select_heatmap_joints(joints, SKELETON), joints[:, list(SKELETON.heatmap_joints)])


def test_constants_are_buffers_that_no_checkpoint_holds():
    encoder = HeatmapEncoder(368, 48)
    assert not encoder.state_dict()
    assert {buffer.device.type for buffer in encoder.to("meta").buffers()} == {"meta"}
