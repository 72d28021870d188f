"""Results of others, for comparison."""

from __future__ import annotations

from typing import Final

SINGLE_BRANCH_MM: Final = {
    "Gaming": 138.3,
    "Gesticulating": 108.5,
    "Greeting": 100.3,
    "Lower Stretching": 133.3,
    "Patting": 117.8,
    "Reacting": 175.6,
    "Talking": 93.5,
    "Upper Stretching": 129.0,
    "Walking": 131.9,
    "All": 130.4,
}
DUAL_BRANCH_MM: Final = {
    "Gaming": 56.0,
    "Gesticulating": 50.2,
    "Greeting": 44.6,
    "Lower Stretching": 51.1,
    "Patting": 59.4,
    "Reacting": 60.8,
    "Talking": 43.9,
    "Upper Stretching": 53.9,
    "Walking": 57.7,
    "All": 58.2,
}
"""MPJPE (mm) on the real test set, without and with the branch that remembers the heatmaps.

Tome et al., "xR-EgoPose: Egocentric 3D Human Pose from an HMD Camera", ICCV 2019; table in the official repository.
"""
