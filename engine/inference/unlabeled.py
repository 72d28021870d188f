"""Stages where there are no labels: which can be used there, and the batches that they get."""

from __future__ import annotations

from torch import Tensor, nn

from engine.loaded_model import LoadedModel
from engine.stages import Stage
from loaders import PoseBatch
from loaders.errors import InputError
from models.lifting_net import LiftingNet


def check_takes_images(loaded: LoadedModel) -> None:
    """Raise InputError for a stage that needs more than images, or none."""
    if "image" not in loaded.stage.outputs:
        raise InputError(
            f"{loaded.source} is a {loaded.stage.name} checkpoint, which takes no images: give one of a stage that "
            "goes from images to poses, such as finetune"
        )
    if more := [name for name in loaded.stage.outputs if name != "image"]:
        raise InputError(
            f"{loaded.source} is a {loaded.stage.name} checkpoint, which takes {' and '.join(more)} beside images: "
            "give one of a stage that takes images alone"
        )


def unlabeled(image: Tensor, joints: int) -> PoseBatch:
    """Return the batch of images (B, 3, S, S), or windows (B, T, 3, S, S), whose labels are NaN, and no joint seen."""
    return PoseBatch.without_labels(image.shape[:-3], joints, image.device, image)


def check_finite(loaded: LoadedModel, *values: Tensor) -> None:
    """Raise InputError if what a network predicts of `unlabeled` images is not finite."""
    if not all(bool(tensor.isfinite().all()) for tensor in values):
        raise InputError(
            f"{loaded.source}: {loaded.stage.name} uses labels to predict, or is not finite: labels are NaN here; mend "
            "its predict, or give another checkpoint or precision"
        )


def drop_reconstruction(stage: Stage, model: nn.Module) -> None:
    """Delete the layers that only the loss needs, unless the stage computes that to predict."""
    if type(stage).predict is not Stage.predict:
        for module in list(model.modules()):
            if isinstance(module, LiftingNet):
                module.drop_reconstruction()
