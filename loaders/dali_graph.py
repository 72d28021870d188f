"""The DALI graph: encoded bytes to pictures. One definition for CPU and GPU; a step with nothing to do is absent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types

from models.camera import FisheyeCamera


@dataclass(frozen=True)
class Picture:
    """One kind of picture in the graph."""

    encoded: bool
    """JPEG or PNG bytes; otherwise uint8 (H, W, 3) as it is."""
    bits: int = 8
    """Bits per channel: 8 or 16."""
    smooth: bool = True
    """Colours, interpolated and recoloured; otherwise values that must stay exact: nearest neighbour."""


@dataclass(frozen=True)
class GraphSpec:
    """What the graph does."""

    pictures: tuple[Picture, ...]
    stored: FisheyeCamera
    """The camera of the stored pictures; its width and height are theirs."""
    image_size: int
    moves: bool
    """Warp each picture by its own matrix."""
    recolours: bool
    """Map each picture's colours by its own matrix."""
    device: str
    """"cpu" or "gpu"."""
    hw_decoder_load: float


Source = Callable[[], tuple[Any, ...]]


def dali_matrices(warp: NDArray[np.float64]) -> NDArray[np.float32]:
    """Turn affine maps (n, 2, 3) between pixels with centres at integers into DALI's, with centres at i + 0.5."""
    out = warp.copy()
    out[:, :, 2] += 0.5 - 0.5 * warp[:, :, :2].sum(axis=2)
    return out.astype(np.float32)


@pipeline_def  # type: ignore[untyped-decorator]
def picture_graph(source: Source, spec: GraphSpec) -> Any:
    """Return one uint8 or uint16 HWC output per picture of ``spec``.

    ``source`` gives a batch: per picture a list of arrays (bytes, or HWC if not encoded), then the warp matrices
    (n, 2, 3) if ``spec.moves``, then the colour matrices (n, 3, 4) if ``spec.recolours``.
    """
    matrices = spec.moves + spec.recolours
    inputs = fn.external_source(
        source=source,
        num_outputs=len(spec.pictures) + matrices,
        batch=True,
        # the bytes stay in the mapped tar, the matrices are kept alive by the loader
        no_copy=True,
        dtype=[types.UINT8] * len(spec.pictures) + [types.FLOAT] * matrices,
        ndim=[1 if picture.encoded else 3 for picture in spec.pictures] + [2] * matrices,
    )
    encoded = inputs[: len(spec.pictures)]
    warp = inputs[len(spec.pictures)] if spec.moves else None
    colour = inputs[-1] if spec.recolours else None
    return tuple(
        build_picture(data, picture, spec, warp, colour) for data, picture in zip(encoded, spec.pictures, strict=True)
    )


def build_picture(data: Any, picture: Picture, spec: GraphSpec, warp: Any, colour: Any) -> Any:
    """Add one picture's steps to the pipeline being defined, from its bytes to HWC pixels, and return the node."""
    image = _decode(data, picture, spec)
    side = min(spec.stored.width, spec.stored.height)
    if spec.stored.width != spec.stored.height:
        image = fn.crop(image, crop=(side, side))
    if picture.bits == 16:
        # the CPU's warp knows int16 only; nearest neighbour moves the bits untouched
        image = fn.reinterpret(image, dtype=types.INT16)
    interpolation = types.INTERP_LINEAR if picture.smooth else types.INTERP_NN
    if side != spec.image_size:
        image = fn.resize(
            image, size=(spec.image_size, spec.image_size), interp_type=interpolation, antialias=picture.smooth
        )
    if warp is not None:
        image = fn.warp_affine(image, matrix=warp, inverse_map=False, interp_type=interpolation, fill_value=0)
    if picture.bits == 16:
        image = fn.reinterpret(image, dtype=types.UINT16)
    if colour is not None and picture.smooth:
        # one affine map of RGB is exact and, on the CPU, faster than color_twist
        image = fn.coord_transform(image, MT=colour, dtype=types.UINT8)
    return image


def _decode(data: Any, picture: Picture, spec: GraphSpec) -> Any:
    if not picture.encoded:
        return data.gpu() if spec.device == "gpu" else data
    return fn.decoders.image(
        data,
        device="mixed" if spec.device == "gpu" else "cpu",
        output_type=types.RGB if picture.smooth else types.ANY_DATA,
        dtype=types.UINT16 if picture.bits == 16 else types.UINT8,
        hw_decoder_load=spec.hw_decoder_load,
        # the CPU decoder's chroma, on the GPU too
        jpeg_fancy_upsampling=True,
    )
