"""Generated frames: layout, labels, the agreement of all images, planted faults, dots."""

import errno
import filecmp
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.cli.command import BAD_INPUT, OK
from models.camera import IN_IMAGE
from models.skeleton import action_group
from models.xr_egopose import ACTION_GROUPS, CAMERA, JOINTS, world_to_camera
from tools.dataset.layout import FILE_NAMES, SET_FOLDERS, SUBJECTS, find_recordings, read_labels
from tools.synthesis.appearance import OBJECT_IDS
from tools.synthesis.body import INDEX, NAMES, PREFIX
from tools.synthesis.defects import FEWEST_FRAMES
from tools.synthesis.families import FAMILIES
from tools.synthesis.frame_generator import FrameGenerator
from tools.synthesis.motion import AT_EASE, draw_track, flipped
from tools.synthesis.render import DEPTH_CM_PER_STEP, WORLD_ORIGIN, WORLD_STEPS_PER_CM, Renderer
from tools.synthesis.solids import Canvas, RoundedCone, cast, solid_strips
from tools.synthesis.writer import dot_colors
from tools.synthesize import main

pytestmark = pytest.mark.slow

FRAMES = 5
CHOSEN = {"train": "female_002_f_s", "val": "male_008_a_a", "test": "male_014_f_s"}


def generate(output: Path, *flags: object) -> int:
    return main(["--output", str(output), *(str(flag) for flag in flags)])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset") / "generated"
    flags = ("--frames-per-subject", FRAMES, "--subjects", *CHOSEN.values(), "--workers", 1)
    assert generate(root, *flags) == OK
    return root


@pytest.fixture(scope="module")
def frames(dataset):
    """Every frame: its recording, number, parsed JSON and the matrix of its camera."""
    found = []
    for recording in find_recordings(dataset):
        for number, path in recording.files("json").items():
            labels = json.loads(path.read_bytes())
            camera = labels["camera"]
            view = world_to_camera(np.array(camera["trans"]), np.array(camera["rot"]))
            found.append((recording, number, labels, view))
    return found


def stored(recording, modality, number):
    return cv2.imread(str(recording.file(modality, number)), cv2.IMREAD_UNCHANGED)


def test_layout_and_names_are_the_datasets(dataset):
    expected = {
        Path(SET_FOLDERS[split], subject, "env_001", "cam_down", modality, name.format(subject=subject, frame=frame))
        for split, subject in CHOSEN.items()
        for modality, name in FILE_NAMES.items()
        for frame in range(1, FRAMES + 1)
    }
    assert {path.relative_to(dataset) for path in dataset.rglob("*") if path.is_file()} == expected


def test_images_have_the_datasets_format(frames):
    formats = {
        "rgba": ((800, 1280, 3), np.uint8),
        "worldp": ((800, 1280, 3), np.uint16),
        "depth": ((800, 1280), np.uint8),
        "objectId": ((800, 1280), np.uint8),
    }
    recording, number, _, _ = frames[0]
    for modality, (shape, dtype) in formats.items():
        image = stored(recording, modality, number)
        assert image.shape == shape and image.dtype == dtype, modality


def test_json_has_the_datasets_schema(frames):
    for recording, number, labels, _ in frames:
        assert set(labels) == {
            *("action", "camera", "char_height", "joints", "pts2d_fisheye", "pts3d_fisheye"),
            "generated",
        }
        assert labels["generated"] is True
        assert set(labels["camera"]) == {"cam_fov", "trans", "rot"} and labels["camera"]["cam_fov"] == 180
        assert [joint["name"] for joint in labels["joints"]] == [PREFIX + name for name in NAMES]
        assert all(len(joint["trans"]) == len(joint["rot"]) == 3 for joint in labels["joints"])
        assert np.shape(labels["pts2d_fisheye"]) == (2, len(NAMES))
        assert np.shape(labels["pts3d_fisheye"]) == (3, len(NAMES))
        assert 140 < labels["char_height"] < 200
        assert action_group(labels["action"], ACTION_GROUPS) is not None
        rotations = json.loads(recording.file("rot", number).read_bytes())
        assert [rotation["rot"] for rotation in rotations] == [joint["rot"] for joint in labels["joints"]]
        read_labels(recording.file("json", number).read_bytes())


def test_authors_formula_reproduces_the_labels(frames):
    for _, _, labels, view in frames:
        world = np.array([joint["trans"] for joint in labels["joints"]])
        points = world @ view[:3, :3].T + view[:3, 3]
        np.testing.assert_allclose(points.T, labels["pts3d_fisheye"], atol=1e-3)
        np.testing.assert_allclose(CAMERA.project(points).T, labels["pts2d_fisheye"], atol=1e-3)


def test_bones_keep_their_lengths_and_feet_stay_above_the_floor(frames):
    lengths = {}
    for recording, _, labels, _ in frames:
        world = np.array([joint["trans"] for joint in labels["joints"]])
        bones = [("LeftArm", "LeftForeArm"), ("RightForeArm", "RightHand"), ("LeftLeg", "LeftFoot")]
        measured = [np.linalg.norm(world[INDEX[a]] - world[INDEX[b]]) for a, b in bones]
        np.testing.assert_allclose(measured, lengths.setdefault(recording.subject, measured), atol=1e-4)
        assert world[:, 1].min() > 0


@pytest.mark.parametrize("links", [True, False])
def test_later_environments_share_the_first_ones_rotations(tmp_path, monkeypatch, links):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "symlink", refuse)  # as vfat does
    flags = (
        "--frames-per-subject",
        2,
        "--environments",
        3,
        "--subjects",
        "male_004_a_a",
        "--modalities",
        "json",
        "rot",
    )
    assert generate(tmp_path / "data", *flags, "--workers", 1) == OK
    first, *later = find_recordings(tmp_path / "data")
    assert len(later) == 2
    for recording in later:
        folder = recording.path / "rot"
        assert folder.is_symlink() == links
        assert not links or str(folder.readlink()) == "../../env_001/cam_down/rot"
        assert filecmp.cmpfiles(
            first.path / "rot", folder, [path.name for path in folder.iterdir()], shallow=False
        ) == (
            sorted(path.name for path in first.files("rot").values()),
            [],
            [],
        )
        assert recording.files("json")[1].read_bytes() != first.files("json")[1].read_bytes()


def test_faults_are_planted_once_in_shared_rotations(tmp_path):
    flags = ("--frames-per-subject", FEWEST_FRAMES, "--environments", 2, "--subjects", "male_004_a_a", "male_005_a_a")
    assert generate(tmp_path, *flags, "--modalities", "json", "rot", "--defects", "--workers", 1) == OK
    listed = json.loads((tmp_path / "defects.json").read_text())
    for recording in find_recordings(tmp_path):
        missing = {
            defect["frame"]
            for defect in listed
            if (defect["subject"], defect["environment"], defect["modality"])
            == (recording.subject, recording.name, "rot")
        }
        assert set(recording.files("rot")) == set(range(1, FEWEST_FRAMES + 1)) - missing
    assert not any(defect["fault"] == "missing" and defect["modality"] == "json" for defect in listed)


def test_files_do_not_depend_on_the_number_of_workers(tmp_path):
    flags = ("--frames-per-subject", 17, "--subjects", "male_004_a_a", "--modalities", "rgba", "json")
    for workers in (1, 2):
        assert generate(tmp_path / str(workers), *flags, "--workers", workers) == OK
    paths = [path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.*") if path.is_file()]
    same, different, lacking = filecmp.cmpfiles(tmp_path / "1", tmp_path / "2", paths, shallow=False)
    assert (len(same), different, lacking) == (34, [], [])


def test_the_seed_and_the_subject_decide_everything():
    def labels(subject, seed):
        return FrameGenerator(subject, 1, 9, seed).frames(9, 9)[0].labels

    assert labels("male_004_a_a", 0) == labels("male_004_a_a", 0)
    assert labels("male_004_a_a", 0)["pts3d_fisheye"] != labels("male_004_a_a", 1)["pts3d_fisheye"]
    assert labels("male_004_a_a", 0)["char_height"] != labels("male_005_a_a", 0)["char_height"]


def world_points(recording, number):
    """Every third pixel in the image circle: column, row and world position in cm."""
    steps = stored(recording, "worldp", number)[::3, ::3, ::-1]
    rows, columns = np.nonzero(steps.any(axis=-1))
    points = (steps[rows, columns].astype(float) - WORLD_ORIGIN) / WORLD_STEPS_PER_CM
    return columns * 3, rows * 3, points


def test_worldp_projects_to_its_own_pixel_and_agrees_with_depth(frames):
    for recording, number, _, view in frames[::2]:
        columns, rows, points = world_points(recording, number)
        assert len(points) > 65_000
        seen = points @ view[:3, :3].T + view[:3, 3]
        distance = np.linalg.norm(seen, axis=-1)
        error = np.linalg.norm(CAMERA.project(seen) - np.stack([columns, rows], axis=-1), axis=-1)
        # half a step in three directions, 0.87 mm, is more than a pixel on what is right in front of the camera
        assert error[distance > 27].max() < 1.5
        assert (error * distance / CAMERA.fx).max() < 0.13
        depth = stored(recording, "depth", number)[rows, columns]
        np.testing.assert_allclose(depth, np.minimum(distance / DEPTH_CM_PER_STEP, 255), atol=0.6)


def distance_to_bone(points, start, end):
    share = np.clip(((points - start) @ (end - start)) / ((end - start) @ (end - start)), 0, 1)
    return np.linalg.norm(points - start - share[:, None] * (end - start), axis=-1)


def test_object_ids_lie_on_their_bones(frames):
    bones = {"LeftForeArm": "LeftHand", "RightForeArm": "RightHand", "LeftLeg": "LeftFoot", "RightUpLeg": "RightLeg"}
    checked = dict.fromkeys(bones, 0)
    for recording, number, labels, _ in frames:
        columns, rows, points = world_points(recording, number)
        ids = stored(recording, "objectId", number)[rows, columns]
        assert ids.min() > 0
        world = np.array([joint["trans"] for joint in labels["joints"]])
        for start, end in bones.items():
            on_bone = points[ids == INDEX[start] + 1]
            checked[start] += len(on_bone)
            distance = distance_to_bone(on_bone, world[INDEX[start]], world[INDEX[end]])
            assert np.all(distance < 0.09 * labels["char_height"]), (start, number)
        floor = points[ids == len(NAMES) + 3]
        assert np.abs(floor[:, 1]).max() < 5 and np.abs(np.median(floor[:, 1])) < 0.1
    assert min(checked.values()) > 100, checked


def test_the_world_position_under_a_joint_lies_on_the_body_near_it(frames):
    parents = {"LeftForeArm": "LeftArm", "LeftHand": "LeftForeArm", "LeftLeg": "LeftUpLeg", "LeftFoot": "LeftLeg"}
    parents |= {a.replace("Left", "Right"): b.replace("Left", "Right") for a, b in parents.items()}
    checked = 0
    for recording, number, labels, _ in frames:
        world = np.array([joint["trans"] for joint in labels["joints"]])
        points, pixels = np.array(labels["pts3d_fisheye"]).T, np.array(labels["pts2d_fisheye"]).T
        seen = CAMERA.visibility(pixels, points) == IN_IMAGE
        ids, steps = stored(recording, "objectId", number), stored(recording, "worldp", number)[..., ::-1]
        (frame,) = FrameGenerator(recording.subject, 1, FRAMES, 0).frames(number, number)
        radii = frame.scene.radii.max(axis=1)
        for name, parent in parents.items():
            index = INDEX[name]
            column, row = np.rint(pixels[index]).astype(int)
            # what is seen there is the limb that begins or ends in the joint, and not from its end
            if not seen[index] or ids[row, column] not in (index + 1, INDEX[parent] + 1):
                continue
            bone = points[index] - points[INDEX[parent]]
            along = bone @ points[index] / np.linalg.norm(bone) / np.linalg.norm(points[index])
            if abs(along) > 0.7:
                continue
            found = (steps[row, column].astype(float) - WORLD_ORIGIN) / WORLD_STEPS_PER_CM
            thickest = radii[(OBJECT_IDS[1:] == index + 1) | (OBJECT_IDS[1:] == INDEX[parent] + 1)].max()
            assert np.linalg.norm(found - world[index]) < thickest / np.sqrt(1 - along**2) + 1.5, (name, number)
            checked += 1
    assert checked >= 12


def test_colors_are_there_exactly_inside_the_image_circle(frames):
    recording, number, _, _ = frames[0]
    lit = stored(recording, "rgba", number).any(axis=-1)
    ids = stored(recording, "objectId", number)
    np.testing.assert_array_equal(lit, ids > 0)
    rows, columns = np.nonzero(lit)
    radius = np.hypot(rows - CAMERA.cy, columns - CAMERA.cx)
    assert 458 < radius.max() < 460
    assert not ids[~lit].any() and (~lit).sum() == 800 * 1280 - (ids > 0).sum()


def test_every_family_belongs_to_the_dataset_and_every_group_occurs():
    actions = sorted(action for family in FAMILIES for action in family.actions)
    assert actions == sorted(action for group in ACTION_GROUPS.values() for action in group)
    for names in SUBJECTS.values():
        for subject in names:
            drawn = draw_track(FAMILIES, 60, 0, subject, 1).actions
            assert {action_group(action, ACTION_GROUPS) for action in drawn} == set(ACTION_GROUPS)
            assert any(action.endswith("_mixamo_com") for action in drawn)


def test_flipping_poses_twice_changes_nothing():
    pose = np.random.default_rng(0).normal(size=(3, AT_EASE.size))
    np.testing.assert_array_equal(flipped(flipped(pose)), pose)
    np.testing.assert_array_equal(flipped(AT_EASE), AT_EASE)


def test_the_body_is_painted_where_it_is():
    (frame,) = FrameGenerator("male_004_a_a", 1, 9, 0).frames(5, 5)
    scene = frame.scene
    room = replace(scene.room, atlas=np.full_like(scene.room.atlas, [0, 200, 0]))
    outfit = replace(scene.outfit, tiles=np.full_like(scene.outfit.tiles, [0, 0, 200, 0]))
    exposure = replace(
        scene.exposure, curve=np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2), blur=0
    )
    renderer = Renderer()
    images = renderer.render(replace(scene, room=room, outfit=outfit, exposure=exposure))
    lit = renderer.objects(images) > 0
    body = images.color[..., 2] > images.color[..., 1]
    assert (body == (images.solid > 0))[lit].mean() > 0.99


def test_rounded_cones_are_hit_on_their_surface_and_inside_their_strips():
    random = np.random.default_rng(5)
    renderer = Renderer()
    rays = renderer._rays
    for _ in range(8):
        start = random.normal(size=3) * [30, 30, 20] + [0, 0, 60]
        end = start + random.normal(size=3) * 15
        radii = random.uniform(2, 6, 2)
        cone = RoundedCone(start, end, radii, np.array([0.0, -1.0, 0.0]))
        canvases = []
        (strips,) = solid_strips(start[None], end[None], radii[None], CAMERA.lens_angle)
        for regions in (strips, [(slice(0, 800), slice(0, 1280))]):
            shape = rays.shape[:2]
            canvas = Canvas(np.full(shape, 1e3, np.float32), np.zeros(shape, np.uint8), np.zeros(shape, np.float32))
            cast(cone, rays, regions, 1, canvas)
            canvases.append(canvas)
        np.testing.assert_array_equal(canvases[0].solid, canvases[1].solid)
        hit = canvases[0].solid > 0
        points = rays[hit][::7] * canvases[0].distance[hit][::7, None]
        share = np.linspace(0, 1, 400)[:, None, None]
        depth = np.linalg.norm(points - (start + share * (end - start)), axis=-1) - (
            radii[0] + share[..., 0] * (radii[1] - radii[0])
        )
        assert len(points) > 100
        np.testing.assert_allclose(depth.min(axis=0), 0, atol=0.05)


def test_dots_sit_on_the_labels(tmp_path):
    flags = ("--frames-per-subject", 4, "--subjects", "male_010_a_a", "--modalities", "rgba", "json", "--dots")
    assert generate(tmp_path, *flags, "--workers", 1) == OK
    (recording,) = find_recordings(tmp_path)
    checked = 0
    for number, path in recording.files("json").items():
        image = stored(recording, "rgba", number).astype(int)
        pixels = read_labels(path.read_bytes()).joints_2d
        for joint, color in enumerate(dot_colors()[:, ::-1].astype(int)):
            others = np.delete(pixels, joint, axis=0)
            if np.linalg.norm(others - pixels[joint], axis=-1).min() < 15 or not inside_image(pixels[joint]):
                continue
            column, row = np.rint(pixels[joint]).astype(int)
            near = image[row - 9 : row + 10, column - 9 : column + 10]
            rows, columns = np.nonzero(np.abs(near - color).sum(axis=-1) <= 6)
            assert len(rows) > 70
            assert (
                np.hypot(columns.mean() + column - 9 - pixels[joint, 0], rows.mean() + row - 9 - pixels[joint, 1]) < 0.5
            )
            checked += 1
    assert checked >= 40


def inside_image(point):
    return 10 < point[0] < 1269 and 10 < point[1] < 789


def test_dot_colors_are_saturated_and_far_apart():
    colors = dot_colors().astype(int)
    assert colors.shape == (len(JOINTS), 3)
    assert (colors.max(axis=1) - colors.min(axis=1)).min() >= 150
    apart = np.abs(colors[:, None] - colors[None]).sum(axis=-1) + 1000 * np.eye(len(JOINTS), dtype=int)
    assert apart.min() > 90


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--frames-per-subject", 0), "--frames-per-subject is 0"),
        (("--frames-per-subject", 5, "--subjects", "male_099_a_a"), "male_099_a_a"),
        (("--frames-per-subject", 5, "--defects"), f"at least {FEWEST_FRAMES}"),
        (("--frames-per-subject", 5, "--val-subjects", 2), "--val-subjects is 2"),
    ],
)
def test_bad_arguments_are_one_clear_line(tmp_path, capsys, flags, said):
    assert generate(tmp_path / "new", *flags) == BAD_INPUT
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1


def test_an_existing_dataset_is_left_alone(dataset, capsys):
    before = sorted(dataset.rglob("*"))
    assert generate(dataset, "--frames-per-subject", 1) == BAD_INPUT
    assert "exists already" in capsys.readouterr().err
    assert sorted(dataset.rglob("*")) == before
