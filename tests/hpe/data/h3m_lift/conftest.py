"""Miniature archives in every layout of Human3.6M that people have on disk, made by code."""

import io
import pathlib
import tarfile
import types
import zipfile

import cdflib.cdfwrite
import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ige.hpe.data.h3m_lift import h3m_lift
from ige.hpe.data.h3m_lift.cameras import published_cameras

CAMERAS = ("54138969", "55011271", "58860488", "60457274")

# Subject -> the names that its files have -> frames.
RECORDINGS = {
    "S1": {"WalkingDog": 3, "TakingPhoto 1": 4},
    "S5": {"SittingDown": 3},
    "S6": {"Sitting 1": 2},
    "S7": {"WalkTogether": 2},
    "S8": {"Photo": 2},
    "S9": {"Walking 2": 3, "Walking 10": 5, "Walking": 2},
    "S11": {"Directions": 4, "Directions 1": 3},
}
# The same, as everybody calls them, in the order in which people count.
SEQUENCES = {
    "train": [
        ("S1", "Photo 1", 4),
        ("S1", "WalkDog", 3),
        ("S5", "SittingDown", 3),
        ("S6", "Sitting 1", 2),
        ("S7", "WalkTogether", 2),
        ("S8", "Photo", 2),
    ],
    "test": [
        ("S9", "Walking", 2),
        ("S9", "Walking 2", 3),
        ("S9", "Walking 10", 5),
        ("S11", "Directions", 4),
        ("S11", "Directions 1", 3),
    ],
}


def poses_of(subject, name):
    """Poses (n, 32, 3) in mm that tell every recording, frame, joint and axis apart.

    All within 0.6 m of the origin, which every camera sees.
    """
    frames = RECORDINGS[subject][name]
    start = 40.0 * int(subject[1:]) + 3.0 * len(name)
    count = np.arange(frames * 96, dtype=np.float32).reshape(frames, 32, 3)
    return np.float32(start) + count * np.float32(0.125)


def keypoints_of(subject, name, camera, joints, extra=0):
    """2D poses (n + extra, joints, 2) in pixels that tell recordings, cameras and joints apart."""
    frames = RECORDINGS[subject][name] + extra
    count = np.arange(frames * joints * 2, dtype=np.float32).reshape(frames, joints, 2)
    return np.float32(int(subject[1:]) * 50 + CAMERAS.index(camera) + len(name)) + count


def every():
    """Every (subject, file's name)."""
    return [(subject, name) for subject, names in RECORDINGS.items() for name in names]


def h5_bytes(**arrays):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return stream.getvalue()


def cameras_h5(change=lambda group, subject, index: None):
    """cameras.h5 of the archive; `change` may spoil a group."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for subject in RECORDINGS:
            for index, (camera_id, camera) in enumerate(published_cameras(subject).items(), 1):
                group = file.create_group(f"subject{subject[1:]}/camera{index}")
                group["R"] = camera.rotation.T
                group["T"] = camera.translation[:, None]
                group["f"] = camera.focal_length[:, None]
                group["c"] = camera.center[:, None]
                group["k"] = camera.radial[:, None]
                group["p"] = camera.tangential[:, None]
                group["Name"] = np.array([[ord(digit)] for digit in camera_id], np.uint16)
                change(group, subject, index)
    return stream.getvalue()


def hourglass_entries(folder, extra=0, views=lambda subject, name, camera: True):
    """Entries S*/FOLDER/NAME.CAMERA.h5 of the views that `views` admits."""
    return {
        f"{subject}/{folder}/{name.replace(' ', '_')}.{camera}.h5": h5_bytes(
            poses=keypoints_of(subject, name, camera, 16, extra)
        )
        for subject, name in every()
        for camera in CAMERAS
        if views(subject, name, camera)
    }


def baseline_entries():
    """Entries of h36m.zip without detections, below h36m/."""
    poses = {
        f"{subject}/MyPoses/3D_positions/{name}.h5": h5_bytes(
            **{"3D_positions": poses_of(subject, name).reshape(-1, 96).T}
        )
        for subject, name in every()
    }
    return {"cameras.h5": cameras_h5(), **poses}


def write_zip(path, entries, top="h36m/"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(top + name, data)


def write_tree(folder, entries):
    for name, data in entries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def write_tar(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def cdf_bytes(array, folder, variable="Pose"):
    """A CDF file with one variable of records x dimensions."""
    path = folder / "scratch.cdf"
    path.unlink(missing_ok=True)
    writer = cdflib.cdfwrite.CDF(path)
    spec = {
        "Variable": variable,
        "Data_Type": writer.CDF_REAL4,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Dim_Sizes": list(array.shape[1:]),
        "Compress": 0,
    }
    writer.write_var(spec, var_data=array.astype(np.float32))
    writer.close()
    data = path.read_bytes()
    path.unlink()
    return data


def metadata_xml(change=lambda numbers: numbers):
    """The dataset's metadata.xml with cameras for the subjects that have poses."""
    extrinsics = np.zeros((4, 11, 6))
    lenses = np.zeros((4, 9))
    for subject in RECORDINGS:
        for index, camera in enumerate(published_cameras(subject).values()):
            angles = Rotation.from_matrix(camera.rotation).as_euler("XYZ")
            extrinsics[index, int(subject[1:]) - 1] = [*angles, *camera.translation]
            lenses[index] = np.concatenate(camera[2:])
    numbers = change(np.concatenate([extrinsics.ravel(), lenses.ravel()]))
    text = " ".join(repr(float(number)) for number in numbers)
    return f'<?xml version="1.0" encoding="utf-8"?>\n<metadata><w0>[{text}]</w0></metadata>\n'


def write_official(folder, metadata=True, also=()):
    """Poses_D3_Positions_S*.tgz; `also` adds empty-named recordings such as '_ALL'."""
    folder.mkdir(parents=True, exist_ok=True)
    for subject, names in RECORDINGS.items():
        entries = {
            f"{subject}/MyPoseFeatures/D3_Positions/{name}.cdf": cdf_bytes(
                poses_of(subject, name).reshape(1, -1, 96), folder
            )
            for name in names
        }
        entries |= {f"{subject}/MyPoseFeatures/D3_Positions/{name}.cdf": b"" for name in also}
        write_tar(folder / f"Poses_D3_Positions_{subject}.tgz", entries)
    if metadata:
        (folder / "metadata.xml").write_text(metadata_xml())


def write_npz(path, **members):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{key: np.array(value, object) for key, value in members.items()})


def write_videopose3d(path):
    positions = {subject: {} for subject in RECORDINGS}
    for subject, name in every():
        positions[subject][name] = poses_of(subject, name) / np.float32(1000.0)
    write_npz(path, positions_3d=positions)


H36M_METADATA = {
    "num_joints": 17,
    "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
}


def write_detections(path, extra=0, metadata=H36M_METADATA, joints=17):
    positions = {subject: {} for subject in RECORDINGS}
    for subject, name in every():
        positions[subject][name] = [
            keypoints_of(subject, name, camera, joints, extra) for camera in CAMERAS
        ]
    write_npz(path, positions_2d=positions, metadata=metadata)


def write_layout(layout, folder: pathlib.Path):
    """Writes the poses in one of the layouts that are told apart here."""
    if layout == "baseline":
        write_zip(folder / "h36m.zip", baseline_entries())
    elif layout == "baseline-tree":
        write_tree(folder / "h36m", baseline_entries())
    elif layout == "official":
        write_official(folder / "official")
    elif layout == "official-without-metadata":
        write_official(folder, metadata=False)
    else:
        write_videopose3d(folder / "data_3d_h36m.npz")


def listed(sequences):
    """(subject, name, frames) of every recording."""
    return [(s.subject, s.name, len(s.poses)) for s in sequences]


@pytest.fixture(scope="session")
def files():
    """The writers above."""
    return types.SimpleNamespace(**globals())


@pytest.fixture
def manual(tmp_path):
    folder = tmp_path / "manual"
    folder.mkdir()
    return folder


@pytest.fixture
def make(tmp_path, manual):
    """Returns a dataset of this test's folders."""
    return lambda **kwargs: h3m_lift(
        **{"data_dir": str(tmp_path / "tfds"), "manual_dir": str(manual), **kwargs}
    )
