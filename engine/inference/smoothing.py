"""Smoothing of the poses of consecutive frames: the 1 euro filter.

Source: Casiez, Roussel and Vogel, "1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
Systems", CHI 2012.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

MIN_CUTOFF: Final = 1.0
"""Cut-off frequency of a joint that rests, at strength 1 (Hz)."""
BETA_3D: Final = 10.0
"""By how much a joint's speed raises it, at strength 1 (Hz per metre a second)."""
BETA_2D: Final = 20.0
"""The same of heatmaps' peaks (Hz per side of the network's image a second)."""
SPEED_CUTOFF: Final = 1.0
"""Cut-off frequency of the speed itself, as in the paper (Hz)."""


class OneEuro:
    """The filter of a sequence's joints, each with a cut-off frequency of its own, which its speed raises.

    The speed is that of all coordinates together, so that the axes do not matter.
    """

    def __init__(self, min_cutoff: float, beta: float) -> None:
        """No frame has come yet.

        Args:
            min_cutoff: cut-off frequency of a joint that rests (Hz).
            beta: by how much speed raises it (Hz per unit of the positions a second).
        """
        self._min_cutoff = min_cutoff
        self._beta = beta
        self._time = 0.0
        self._position: NDArray[np.float64] | None = None
        """(J, D), smoothed, of the last frame; NaN for a joint that it lacked."""
        self._velocity = np.empty(0)
        """(J, D), smoothed (units a second)."""

    def __call__(self, positions: Floats, time: float) -> NDArray[np.float64]:
        """Return the next frame's positions (J, D), smoothed.

        A joint that the last frame lacked, which is NaN, begins anew, and so do all at a time (seconds) that is not
        after the last frame's.
        """
        given = np.asarray(positions, np.float64)
        step = time - self._time
        if self._position is None or step <= 0:
            self._position, self._velocity = np.full_like(given, np.nan), np.zeros_like(given)
        change = given - self._position
        begins = np.isnan(change).any(-1, keepdims=True)
        share = _share(SPEED_CUTOFF, step)
        self._velocity = np.where(begins, 0.0, self._velocity + share * (change / step - self._velocity))
        speed = np.linalg.norm(self._velocity, axis=-1, keepdims=True)
        moved = self._position + _share(self._min_cutoff + self._beta * speed, step) * change
        self._position, self._time = np.where(begins, given, moved), time
        return self._position


class Smoother:
    """Smooths the poses of sequences, one after another, each by itself."""

    def __init__(self, strength: float) -> None:
        """No frame has come yet.

        Args:
            strength: what all cut-off frequencies are divided by, above 0. A joint that rests then follows the network
                with a time constant of ``strength / (2 pi MIN_CUTOFF)`` seconds.
        """
        self._strength = strength
        self._sequence: Hashable | None = None
        """Of the last frame."""
        self._filters: list[OneEuro] = []
        """Its sequence's: of joints_3d and of the peaks."""

    @property
    def facts(self) -> dict[str, Any]:
        """What it does, for predictions.json."""
        return {
            "filter": "one euro",
            "strength": self._strength,
            "min_cutoff_hz": MIN_CUTOFF / self._strength,
            "beta_3d_hz_per_m_per_s": BETA_3D / self._strength,
            "beta_2d_hz_per_side_per_s": BETA_2D / self._strength,
            "speed_cutoff_hz": SPEED_CUTOFF,
        }

    def __call__(
        self, found: Sequence[Floats], sequences: Sequence[Hashable | None], times: Sequence[float]
    ) -> list[NDArray[np.float64]]:
        """Return what was found in n frames, one after another, smoothed.

        Args:
            found: joints_3d (n, J, 3) in metres and, where there are heatmaps, their peaks (n, K, 2) in sides of the
                network's image.
            sequences: n, what each is a frame of; None is a frame by itself, which stays as it is.
            times: n (seconds).
        """
        smoothed = [np.array(positions, np.float64) for positions in found]
        for i, (sequence, time) in enumerate(zip(sequences, times, strict=True)):
            if sequence is None or sequence != self._sequence:
                betas = (BETA_3D, BETA_2D)
                self._filters = [OneEuro(MIN_CUTOFF / self._strength, beta / self._strength) for beta in betas]
            self._sequence = sequence
            for positions, smooth in zip(smoothed, self._filters, strict=False):  # perhaps there are no peaks
                positions[i] = smooth(positions[i], time)
        return smoothed


def _share(cutoff: Any, step: float) -> Any:
    """Return what a step (seconds) goes of the way to its input at a cut-off frequency (Hz), from 0 to 1."""
    ratio = 2 * np.pi * cutoff * step
    return ratio / (1 + ratio)
