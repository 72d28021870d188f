"""What a network predicts, and whether it has the shapes that it should have."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from loaders.errors import InputError
from models.skeleton import Skeleton


@dataclass(frozen=True)
class Prediction:
    """What a stage's network predicts for B samples; None for what it does not. Of J joints K have a heatmap."""

    heatmap: Tensor | None = None
    """(B, K, S, S)."""
    joints_3d: Tensor | None = None
    """(B, J, 3), metres relative to the root."""
    reconstruction: Tensor | None = None
    """(B, K, S, S): the heatmaps as the lifting network reconstructs them from its latent code."""


def check_prediction(name: str, prediction: Prediction, samples: int, size: int, skeleton: Skeleton) -> None:
    """Raise InputError if what a stage or network of this name returns is no prediction for so many samples.

    ``size`` is the side of heatmaps (cells).
    """
    if not isinstance(prediction, Prediction):
        raise InputError(f"{name} returns a {type(prediction).__name__}, not an engine.stages.Prediction")
    maps = (samples, len(skeleton.heatmap_joints), size, size)
    expected = {"heatmap": maps, "joints_3d": (samples, len(skeleton), 3), "reconstruction": maps}
    for part, shape in expected.items():
        found = getattr(prediction, part)
        if found is not None and tuple(found.shape) != shape:
            raise InputError(f"{name} returns {part} of shape {tuple(found.shape)}, not {shape}")


def check_terms(name: str, terms: dict[str, Tensor]) -> None:
    """Raise InputError if what a stage of this name returns as its loss are no scalars by name."""
    if not isinstance(terms, dict) or not terms:
        raise InputError(f"{name} returns its loss as a {type(terms).__name__}, not as terms by name")
    for term, value in terms.items():
        if not isinstance(value, Tensor) or value.ndim:
            kind = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"as a {type(value).__name__}"
            raise InputError(f"{name} returns the term {term} of its loss {kind}, not as a scalar tensor")
