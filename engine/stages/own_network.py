"""Networks of users' own in the engine's stages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

from torch import Tensor, nn

from engine.own_class import find_class
from engine.stages.prediction import Prediction
from loaders.errors import InputError
from models.skeleton import Skeleton

Returns = Sequence[tuple[str, ...]]
"""What a network may return: one tensor, two or more, by their names in `Prediction`; the first must be among them."""

_MADE: Final = "{}(image_size=368, heatmap_size=48)"


def sees_windows(name: str) -> bool:
    """Return whether a network, by the name of its class, sees windows of frames. Raises InputError as `find_class`."""
    return bool(getattr(find_class(name, nn.Module), "sees_windows", False))


def build_own_network(name: str, image_size: int, heatmap_size: int, skeleton: Skeleton, given: str) -> nn.Module:
    """Return a network with new weights.

    Args:
        name: of its class.
        image_size: side of the images (pixels).
        heatmap_size: side of the heatmaps (cells).
        skeleton: what the joints are; only a network that has a parameter of that name gets it.
        given: what it is to be called with, for messages.

    Raises:
        InputError: the class cannot be found, or is not made or called as it should be; in one line.
    """
    network = find_class(name, nn.Module)
    if network.forward is nn.Module.forward:
        raise InputError(f"{name} lacks forward, which gets {given}")
    arguments: dict[str, Any] = {"image_size": image_size, "heatmap_size": heatmap_size}
    if "skeleton" in inspect.signature(network).parameters:
        arguments["skeleton"] = skeleton
    _check_call(network, f"{name} is not made as {_MADE.format(network.__name__)}", **arguments)
    model = network(**arguments)
    _check_call(model.forward, f"forward of {name} does not take one argument, {given}", None)
    return model


def as_prediction(name: str, returned: Any, returns: Returns) -> Prediction:
    """Return the tensors that a network returns as a prediction. Raises InputError if it is none."""
    values = tuple(returned) if isinstance(returned, tuple | list) else (returned,)
    named = dict(zip(returns[len(values) - 1], values, strict=True)) if 0 < len(values) <= len(returns) else {}
    tensors = {part: value for part, value in named.items() if value is not None}
    if returns[0][0] not in tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        kinds = ", ".join(type(value).__name__ for value in values)
        wanted = ", or ".join(f"({', '.join(each)})" if len(each) > 1 else each[0] for each in returns)
        raise InputError(f"{name} returns {kinds}: give tensors, {wanted}")
    return Prediction(**tensors)


def _check_call(function: Callable[..., Any], fault: str, *arguments: Any, **named: Any) -> None:
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError as error:
        raise InputError(f"{fault}: {error}") from None
