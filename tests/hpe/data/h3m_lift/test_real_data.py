"""The readers on real recordings in the real layouts."""

import shutil

import numpy as np
import pytest

from ige.geometry.cameras import project, world_to_camera
from ige.hpe.data.h3m_lift import h3m_lift
from ige.hpe.skeleton import convert, get_skeleton

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def read(real_data, tmp_path_factory):
    """Returns (subject, name) -> recording of one way to read the data."""
    folder = tmp_path_factory.mktemp("real")
    bare = folder / "official"
    bare.mkdir()
    for path in (real_data / "h3m" / "official").glob("*.tgz"):
        shutil.copy(path, bare)

    def reader(data, manual=real_data / "h3m", **kwargs):
        made = h3m_lift(
            data=data, manual_dir=str(manual), data_dir=str(folder / "tfds" / data), **kwargs
        )
        sequences = made.sequences("train") + made.sequences("test")
        return {(s.subject, s.name): s for s in sequences}

    return {
        "baseline": reader("baseline"),
        "official": reader("official"),
        "official-without-metadata": reader("official", bare),
        "videopose3d": reader("videopose3d"),
        "hourglass": reader("baseline", keypoints="hourglass"),
        "gt": reader("videopose3d", keypoints="detections", detections="gt"),
    }


@pytest.mark.parametrize(
    ("way", "count"),
    [("official", 21), ("official-without-metadata", 21), ("videopose3d", 15)],
)
def test_every_way_agrees_with_the_archive(read, way, count):
    assert len(read["baseline"]) == 72
    assert len(read[way]) == count
    for key, sequence in read[way].items():
        expected = read["baseline"][key]
        np.testing.assert_allclose(sequence.poses, expected.poses, rtol=0, atol=1e-3)
        for camera_id, camera in sequence.cameras.items():
            poses = expected.poses.astype(np.float64)
            np.testing.assert_allclose(
                world_to_camera(poses, camera).numpy(),
                world_to_camera(poses, expected.cameras[camera_id]).numpy(),
                rtol=0,
                atol=1e-3,
            )


def test_projections_are_the_published_ones(read):
    for key, sequence in read["gt"].items():
        assert len(sequence.keypoints) == 4
        joints = convert(
            read["baseline"][key].poses.astype(np.float64),
            get_skeleton("h36m_32"),
            get_skeleton("h36m_17"),
        )
        for camera_id, pixels in sequence.keypoints.items():
            camera = sequence.cameras[camera_id]
            projected = project(world_to_camera(joints, camera), camera).numpy()
            np.testing.assert_allclose(projected, pixels, rtol=0, atol=1e-2)


def test_hourglass_detections(read):
    views = [view for sequence in read["hourglass"].values() for view in sequence.keypoints.items()]
    assert len(views) == 150
    for (subject, name), sequence in read["hourglass"].items():
        excluded = (subject, name) == ("S11", "Directions")
        if subject in ("S9", "S11"):
            assert len(sequence.keypoints) == 4 - excluded
        for camera_id, pixels in sequence.keypoints.items():
            camera = sequence.cameras[camera_id]
            hips = sequence.poses[:, [1, 6]].astype(np.float64)  # right, left
            projected = project(world_to_camera(hips, camera), camera).numpy()
            error = np.linalg.norm(pixels[:, [2, 3]] - projected, axis=-1)
            assert np.median(error) < 20.0
