"""Datasets that are not xR-EgoPose: a skeleton of 15 joints with its root in the middle, and cameras of every model."""

from models.camera import FisheyeCamera, OcamCamera, PinholeCamera
from models.skeleton import Skeleton

BODY = Skeleton.of(
    {
        "chest": "hips",
        "shoulder_l": "chest",
        "elbow_l": "shoulder_l",
        "wrist_l": "elbow_l",
        "shoulder_r": "chest",
        "elbow_r": "shoulder_r",
        "wrist_r": "elbow_r",
        "hips": None,
        "hip_l": "hips",
        "knee_l": "hip_l",
        "ankle_l": "knee_l",
        "hip_r": "hips",
        "knee_r": "hip_r",
        "ankle_r": "knee_r",
        "crown": "chest",
    },
    without_heatmap=("crown",),
    head="crown",
    upper_body=("chest", "shoulder_l", "elbow_l", "wrist_l", "shoulder_r", "elbow_r", "wrist_r", "crown"),
    lower_body=("hip_l", "knee_l", "ankle_l", "hip_r", "knee_r", "ankle_r"),
)
"""Its root is the eighth joint, before which some of its children stand."""

FRAMES = {
    "kannala-brandt": FisheyeCamera(720, 720, 210.0, 208.0, 366.0, 352.0, (0.05, -0.01, 0.0, 0.0)),
    "ocam": OcamCamera(640, 512, 322.0, 250.0, (-180.0, 0.0, 0.0009, -4e-7, 2e-9), (0.99, 0.02, -0.03), 95.0),
    "pinhole": PinholeCamera(640, 480, 300.0, 310.0, 318.0, 244.0, (-0.1, 0.01, 0.0, 0.0, 0.0)),
}
"""Cameras by the word of their model; the ocam's pixels are skewed."""
