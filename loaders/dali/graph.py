"""The DALI graph: encoded bytes to images. One definition for CPU and GPU; a step with nothing to do is absent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types

from loaders.codecs import PNG_HEADER, PngLayout
from models.camera import Camera

_BYTES_PER_PIXEL: Final = 8
"""Memory that nvJPEG gets to decode an image: 16 bits for each coefficient of three channels, and some to spare."""


@dataclass(frozen=True)
class ImageSpec:
    """One of a sample's images in the graph."""

    encoded: bool
    """JPEG or PNG bytes; otherwise uint8 (H, W, 3) as it is."""
    layout: PngLayout | None = None
    """Of a PNG whose values are no colors: the graph decodes it and does nothing else. None is an image."""


@dataclass(frozen=True)
class GraphSpec:
    """What the graph does."""

    images: tuple[ImageSpec, ...]
    stored: Camera
    """The camera of the stored images; its width and height are theirs."""
    window: tuple[int, int, int]
    """Left, top and side of the square that is cut out of them (pixels); what lies beyond an image is zero."""
    image_size: int
    moves: bool
    """Warp each image by its own matrix."""
    jitters_color: bool
    """Map each image's colors by its own matrix."""
    device: str
    """"cpu" or "gpu"."""
    hw_decoder_load: float
    decodes_on_gpu: bool = False
    """Decode there as well, where ``device`` is "gpu"."""
    fast_dct: bool = False
    """Decode JPEGs on the CPU by the fast integer DCT, see `loaders.codecs.decode_stored`."""
    normalize: bool = False
    """Normalize images to -1..1, float32 CHW; otherwise they stay HWC bytes."""

    @property
    def takes_matrices(self) -> bool:
        """Whether the graph asks for matrices of each image."""
        return self.moves or self.jitters_color


Feed = Callable[[], tuple[Any, ...]]
"""Returns the next batch's inputs to a graph; DALI calls it when it has room for one."""


def dali_matrices(warp: NDArray[np.float64]) -> NDArray[np.float32]:
    """Convert affine maps (n, 2, 3) between pixels with centers at integers into DALI's, with centers at i + 0.5."""
    out = warp.copy()
    out[:, :, 2] += 0.5 - 0.5 * warp[:, :, :2].sum(axis=2)
    return out.astype(np.float32)


@pipeline_def  # type: ignore[untyped-decorator]
def random_access_graph(feed: Feed, spec: GraphSpec) -> tuple[Any, ...]:
    """Return one output per image of ``spec``, HWC, or CHW if normalized.

    ``feed`` returns a batch: per image a list of arrays (bytes, or HWC if not encoded), then the matrices that
    `_external` asks for. Bytes must begin with an image's header: without one, this DALI's decoder may crash.
    """
    inputs = _external(feed, spec.images, spec)
    return _images(inputs[: len(spec.images)], inputs[len(spec.images) :], spec)


@pipeline_def  # type: ignore[untyped-decorator]
def sequential_graph(
    feed: Feed, spec: GraphSpec, *, tars: list[str], indices: list[str], members: list[str], prefetch: int
) -> tuple[Any, ...]:
    """Return the bytes (n,) of each label, the images of ``spec``, and the headers of the encoded ones.

    Headers are the stored sizes (H, W, C), then the first bytes (n,) of those that have a layout.

    Args:
        feed: returns the matrices.
        spec: what is done to the images.
        tars: paths or URLs, in the order to read them; a tar may come again.
        indices: an index file for each, which lists the samples to take in the order to take them.
        members: of a sample: labels, then the images of ``spec``.
        prefetch: batches read ahead (batches).
    """
    read: Any = fn.readers.webdataset(
        paths=tars,
        index_paths=indices,
        ext=members,
        missing_component_behavior="error",
        # a mapped file would be read by the decoding threads, at the moment they need it
        dont_use_mmap=True,
        prefetch_queue_depth=prefetch,
    )
    outputs = list(read) if isinstance(read, list | tuple) else [read]
    labels = outputs[: len(outputs) - len(spec.images)]
    inputs, sizes, begins = [], [], []
    for data, kind in zip(outputs[len(labels) :], spec.images, strict=True):
        if kind.encoded:
            size = fn.peek_image_shape(data)
            sizes.append(size)
            if kind.layout:
                begins.append(data[:PNG_HEADER])
            # nothing is cut: this only makes the decoder wait until the header has been read, see random_access_graph
            inputs.append(data[size[0] - size[0] :])
        else:
            shape = (spec.stored.height, spec.stored.width, 3)
            inputs.append(fn.reshape(data[-math.prod(shape) :], shape=shape, layout="HWC"))
    return *labels, *_images(inputs, _external(feed, (), spec), spec), *sizes, *begins


@pipeline_def  # type: ignore[untyped-decorator]
def decode_graph(feed: Feed, kind: ImageSpec, spec: GraphSpec) -> Any:
    """Return images as they are stored; ``feed`` returns a list of their bytes."""
    return _decode(fn.external_source(source=feed, dtype=types.UINT8, ndim=1, batch=True), kind, spec)


def _external(feed: Feed, images: tuple[ImageSpec, ...], spec: GraphSpec) -> list[Any]:
    """Return these images as ``feed`` gives them, then the matrices: (2, 3) if pixels move, (3, 4) if colors change."""
    matrices = spec.moves + spec.jitters_color
    if not (images or matrices):
        return []
    inputs: Any = fn.external_source(
        source=feed,
        num_outputs=len(images) + matrices,
        batch=True,
        # the bytes stay in the mapped tar, the matrices are kept alive by the loader
        no_copy=True,
        dtype=[types.UINT8] * len(images) + [types.FLOAT] * matrices,
        ndim=[1 if kind.encoded else 3 for kind in images] + [2] * matrices,
    )
    return list(inputs)


def _images(inputs: list[Any], matrices: list[Any], spec: GraphSpec) -> tuple[Any, ...]:
    warp = matrices[0] if spec.moves else None
    color = matrices[-1] if spec.jitters_color else None
    return tuple(build_image(data, kind, spec, warp, color) for data, kind in zip(inputs, spec.images, strict=True))


def build_image(data: Any, kind: ImageSpec, spec: GraphSpec, warp: Any, color: Any) -> Any:
    """Add one image's steps to the pipeline being defined, from its bytes to pixels, and return the node."""
    image = _decode(data, kind, spec)
    if kind.layout:
        return image
    left, top, side = spec.window
    if spec.window != (0, 0, spec.stored.width):
        image = fn.slice(image, start=(top, left), shape=(side, side), axis_names="HW", out_of_bounds_policy="pad")
    linear = types.INTERP_LINEAR
    if side != spec.image_size:
        image = fn.resize(image, size=(spec.image_size, spec.image_size), interp_type=linear, antialias=True)
    if warp is not None:
        image = fn.warp_affine(image, matrix=warp, inverse_map=False, interp_type=linear, fill_value=0)
    if color is not None:
        # one affine map of RGB is exact and, on the CPU, faster than color_twist
        image = fn.coord_transform(image, MT=color, dtype=types.UINT8)
    if spec.normalize:
        gray = [127.5] * 3
        image = fn.crop_mirror_normalize(image, dtype=types.FLOAT, output_layout="CHW", mean=gray, std=gray)
    return image


def _decode(data: Any, kind: ImageSpec, spec: GraphSpec) -> Any:
    if not kind.encoded:
        return data.gpu() if spec.device == "gpu" else data
    layout = kind.layout or PngLayout(channels=3, bits=8)
    memory = _BYTES_PER_PIXEL * spec.stored.width * spec.stored.height
    image: Any = fn.decoders.image(
        data,
        device="mixed" if spec.decodes_on_gpu else "cpu",
        # told that it is RGB, this DALI crashes at a PNG of 16 bits that ends too early
        output_type=types.ANY_DATA if kind.layout else types.RGB,
        dtype=types.UINT16 if layout.bits == 16 else types.UINT8,
        hw_decoder_load=spec.hw_decoder_load,
        # all images are of one size, so that this is enough for each
        preallocate_width_hint=spec.stored.width,
        preallocate_height_hint=spec.stored.height,
        device_memory_padding=memory,
        host_memory_padding=memory,
        # labels belong to pixels as they are stored
        adjust_orientation=False,
        use_fast_idct=spec.fast_dct,
        # the CPU decoder's chroma, on the GPU too
        jpeg_fancy_upsampling=True,
    )
    return image.gpu() if spec.device == "gpu" and not spec.decodes_on_gpu else image
