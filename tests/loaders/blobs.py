"""The blobs of `tests.shard_factory`, found by color, against the loaded 2D labels."""

import numpy as np

from tests.shard_factory import BACKGROUND


def check_blobs(batches):
    """Assert that each blob lies within half a pixel of its joint; return how many could be looked at."""
    checked = 0
    for batch in batches:
        images = batch.image.cpu().permute(0, 2, 3, 1).numpy().astype(np.float64)
        for image, joints in zip(images, batch.joints_2d.cpu().numpy(), strict=True):
            # a blob that no other one touches, away from the border
            for joint in joints:
                side = image.shape[0]
                alone = np.sort(np.linalg.norm(joints - joint, axis=1))[1] > side / 6
                if alone and (joint > side / 7).all() and (joint < side * 6 / 7).all():
                    np.testing.assert_allclose(blob_center(image, joint), joint, atol=0.5)
                    checked += 1
    return checked


def blob_center(image, near):
    """Return the center of mass of what stands out from the background around ``near``."""
    reach = image.shape[0] // 14
    x0, y0 = np.round(near).astype(int) - reach
    window = np.abs(image[y0 : y0 + 2 * reach + 1, x0 : x0 + 2 * reach + 1] - BACKGROUND).sum(2)
    ys, xs = np.indices(window.shape)
    return np.array([(xs * window).sum() + x0 * window.sum(), (ys * window).sum() + y0 * window.sum()]) / window.sum()
