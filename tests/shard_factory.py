"""Tiny shard sets for tests: random poses in view of the camera, a soft colored blob painted at each joint."""

from __future__ import annotations

import colorsys
import hashlib
import io
import json
import tarfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from loaders.codecs import encode_array, swap_red_and_blue
from loaders.format.index import index_name, write_index
from loaders.format.manifest import FILE_NAME, Manifest, Shard, SkippedFrame, Split
from loaders.format.sample import (
    DEPTH,
    IMAGE_MEMBERS,
    JSON,
    META,
    NO_ROTATIONS,
    OBJECT_ID,
    POSE,
    ROT,
    VISIBLE,
    WORLDP,
    encode_meta,
    encode_pose,
    encode_visible,
    sample_key,
)
from loaders.format.shard_set import ShardSet
from loaders.preprocessing import Format, Preprocessing
from models.camera import Camera, Crop
from models.skeleton import Skeleton
from models.xr_egopose import ACTION_GROUPS, CAMERA, JOINTS, NAME, SKELETON

ACTIONS = (
    "Dribble",
    "Boxing_mixamo_com_1",
    "walking_mixamo_com",
    "Sitting_Thumbs_Up",
    "Patting",
    "Thinking",
    "an_unknown_action",
)
COLORS = np.array([colorsys.hsv_to_rgb(joint / len(JOINTS), 1.0, 1.0) for joint in range(len(JOINTS))]) * 255
"""(16, 3) RGB of the joints' blobs."""
BACKGROUND = 32
"""Gray level around the blobs."""

_QUALITY = 95
"""Of JPEGs."""

SKIPPED = SkippedFrame("male_001_a_a", "env_001", 17, "no rgba file")


def make_shard_set(
    root: Path,
    splits: Mapping[str, int] | None = None,
    *,
    image_size: int = 64,
    samples_per_shard: int = 4,
    image_format: Format = "jpeg",
    crop: Crop = "square",
    components: Sequence[str] = ("rgba",),
    actions: Sequence[str] = ACTIONS,
    subjects_per_split: int = 1,
    seed: int = 0,
    frame: Camera = CAMERA,
    skeleton: Skeleton = SKELETON,
    groups: Mapping[str, tuple[str, ...]] = ACTION_GROUPS,
) -> Path:
    """Write a shard set and return its folder.

    Args:
        root: the folder, made if absent.
        splits: number of samples by split.
        image_size: side of the stored image (pixels); "source" images are 1280x800.
        samples_per_shard: so many in each but the last.
        image_format: jpeg, png, raw or source.
        crop: what a network sees of a frame.
        components: among rgba, json, worldp, depth, objectId, rot.
        actions: names that the samples take in turn.
        subjects_per_split: number of subjects whom the samples belong to in turn.
        seed: of poses.
        frame: the camera of the frames.
        skeleton: what the joints are, at most 16.
        groups: of actions.
    """
    counts = {"train": 8, "val": 4, "test": 6} if splits is None else splits
    random = np.random.default_rng(seed)
    preprocessing = Preprocessing.of(image_format, crop, image_size, _QUALITY, frame)
    camera = preprocessing.stored
    subjects = tuple(f"female_{number:03}_a_a" for number in range(1, 1 + len(counts) * subjects_per_split))
    described = {}
    for number_of_split, (split, count) in enumerate(counts.items()):
        folder = root / split
        folder.mkdir(parents=True, exist_ok=True)
        shards = []
        for first in range(0, count, samples_per_shard):
            name = f"{split}-{first // samples_per_shard:06d}.tar"
            numbers = range(first, min(first + samples_per_shard, count))
            samples = []
            for number in numbers:
                pose, members = make_sample(camera, preprocessing, components, random, skeleton)
                subject = number_of_split * subjects_per_split + number % subjects_per_split
                members[META] = encode_meta(subject, 0, number + 1, number % len(actions))
                members[VISIBLE] = encode_visible(preprocessing.visibility(pose))
                samples.append((sample_key(subjects[subject], "env_001", number + 1), members))
            shards.append(write_shard(folder / name, samples))
        described[split] = Split(tuple(shards), (SKIPPED,) if split == "train" else ())
    options = {"components": list(components), "seed": seed}
    lists = subjects, ("env_001",), tuple(actions)
    name = NAME if skeleton == SKELETON else "another"
    manifest = Manifest(options, preprocessing, *lists, described, False, name, skeleton, dict(groups))
    (root / FILE_NAME).write_text(manifest.to_json())
    return root


def make_sample(
    camera: Camera,
    preprocessing: Preprocessing,
    components: Sequence[str],
    random: np.random.Generator,
    skeleton: Skeleton = SKELETON,
) -> tuple[NDArray[np.float32], dict[str, bytes]]:
    """Return a pose (J, 5), and the sample's members but meta and visibility, in their order."""
    joints_2d, joints_3d = random_pose(camera, random, len(skeleton))
    members = {}
    if "rgba" in components:
        image_format = preprocessing.format
        members[IMAGE_MEMBERS[image_format]] = encode_image(paint_blobs(camera, joints_2d), image_format)
    if "json" in components:
        members[JSON] = json.dumps({"action": "any"}).encode()
    if "worldp" in components:
        members[WORLDP] = encode_image(world_positions(camera), "png")
    if "depth" in components:
        members[DEPTH] = encode_image(world_positions(camera)[:, :, 0], "png")
    if "objectId" in components:
        members[OBJECT_ID] = encode_image(object_ids(camera, joints_2d), "png")
    if "rot" in components:
        listed = [
            {"name": f"mixamorig:{name}", "trans": [0, 0, 0], "rot": random.uniform(-180, 180, 3).tolist()}
            for name in ("Hips", *reversed(skeleton.joints[1:]))
        ]
        members[ROT] = json.dumps(listed).encode() if random.random() < 0.5 else NO_ROTATIONS
    members[POSE] = encode_pose(joints_2d, joints_3d)
    return np.concatenate([joints_2d, joints_3d], axis=1, dtype=np.float32), members


def random_pose(
    camera: Camera, random: np.random.Generator, joints: int = len(JOINTS)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return joints_2d (J, 2), pixels within the center square, and joints_3d (J, 3), metres, camera frame."""
    side = min(camera.width, camera.height)
    corner = (np.array([camera.width, camera.height]) - side) / 2
    joints_2d = corner + random.uniform(0.15, 0.85, (joints, 2)) * side
    joints_3d = camera.back_project(joints_2d) * random.uniform(0.3, 1.5, (joints, 1))
    return joints_2d, joints_3d


def paint_blobs(camera: Camera, joints_2d: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return (H, W, 3) RGB with a Gaussian of the joint's color at each joint; where blobs meet, the brightest."""
    sigma = min(camera.width, camera.height) / 32
    x = np.exp(-np.square(np.arange(camera.width) - joints_2d[:, :1]) / (2 * sigma**2)).astype(np.float32)
    y = np.exp(-np.square(np.arange(camera.height) - joints_2d[:, 1:]) / (2 * sigma**2)).astype(np.float32)
    height = np.zeros((camera.height, camera.width), np.float32)
    joint = np.zeros((camera.height, camera.width), np.int64)
    for i in range(len(joints_2d)):
        blob = np.outer(y[i], x[i])
        joint[blob > height] = i
        height = np.maximum(height, blob)
    painted = BACKGROUND + height[..., None] * (COLORS - BACKGROUND)[joint]
    return painted.round().astype(np.uint8)


def world_positions(camera: Camera) -> NDArray[np.uint16]:
    """Return (H, W, 3) RGB, 16 bit, whose values say which pixel they belong to: column, row, and their sum."""
    rows, columns = _grid(camera)
    return np.stack([columns * 40, rows * 40, rows + columns], axis=2).astype(np.uint16)


def object_ids(camera: Camera, joints_2d: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return (H, W, 4), 8 bit: a disc on each joint, whose first value is its number from 1, among zeros."""
    rows, columns = _grid(camera)
    objects = np.zeros((camera.height, camera.width, 4), np.uint8)
    for joint, (u, v) in enumerate(joints_2d):
        objects[np.hypot(columns - u, rows - v) <= min(camera.width, camera.height) / 24, 0] = joint + 1
    objects[..., 1:] = np.stack([columns, rows, columns + rows], axis=2) % 251
    return objects


def encode_image(image: NDArray[np.uint8] | NDArray[np.uint16], image_format: str) -> bytes:
    """Encode an image, gray, RGB or RGBA, as it is stored."""
    if image_format == "raw":
        return encode_array(image)
    extension, options = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]) if image_format == "jpeg" else (".png", [])
    return cv2.imencode(extension, swap_red_and_blue(image), options)[1].tobytes()


def write_shard(path: Path, samples: Sequence[tuple[str, Mapping[str, bytes]]]) -> Shard:
    """Write a tar of (key, members) and its index."""
    index = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples:
            places = []
            for extension, content in members.items():
                entry = tarfile.TarInfo(f"{key}.{extension}")
                entry.size = len(content)
                places.append((extension, tar.offset + tarfile.BLOCKSIZE, len(content), entry.name))
                tar.addfile(entry, io.BytesIO(content))
            index.append(places)
    write_index(path.with_name(index_name(path.name)), index)
    data = path.read_bytes()
    return Shard(path.name, len(samples), len(data), hashlib.sha256(data).hexdigest())


def spoil_images(root: Path, split: str, samples: Collection[int]) -> None:
    """Overwrite the images of some samples by zeros; sizes and offsets stay as they are."""
    shard_set = ShardSet(root, split)
    for index in samples:
        offset, size = shard_set.span(index, shard_set.manifest.image_member or "")
        with (shard_set.folder / shard_set.shards[int(shard_set.shard_of([index])[0])].name).open("r+b") as stream:
            stream.seek(offset)
            stream.write(bytes(size))


def _grid(camera: Camera) -> NDArray[np.int64]:
    return np.indices((camera.height, camera.width))
