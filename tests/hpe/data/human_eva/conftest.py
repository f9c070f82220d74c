"""HumanEva-I in both layouts that people have on disk, made by code."""

import shutil
import types

import numpy as np
import pytest

from ige.hpe.data.human_eva import human_eva
from ige.hpe.data.human_eva.mocap import Markers
from ige.hpe.data.human_eva.synthetic import SyntheticSpec, write_synthetic

SPEC = SyntheticSpec(seed=5, frames=4)

# Markers that the limbs are made of, (x, y, z) in mm: somebody who faces along x. Each segment is
# the label without its last letter, its origin, the distance of its point P, and its x and z axes.
AHEAD, UP = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
SEGMENTS = (
    ("PEL", (0, 0, 1000), 100, AHEAD, UP),
    ("TRX", (0, 0, 1400), 100, AHEAD, UP),
    ("HED", (0, 0, 1500), 100, AHEAD, UP),
    ("LFE", (0, 100, 500), 450, AHEAD, UP),
    ("LTI", (0, 100, 100), 400, AHEAD, UP),
    # Knee 300 mm ahead of the hip and 400 mm below it.
    ("RFE", (300, -100, 550), 500, (0.8, 0.0, 0.6), (-0.6, 0.0, 0.8)),
    ("RTI", (300, -100, 150), 400, AHEAD, UP),
    ("LCL", (0, 200, 1400), 100, AHEAD, UP),
    ("LHU", (0, 200, 1100), 300, AHEAD, UP),
    ("LRA", (0, 200, 850), 250, AHEAD, UP),
    # An elbow that is not where the axis of the upper arm ends.
    ("RCL", (0, -200, 1400), 100, AHEAD, UP),
    ("RHU", (0, -500, 1400), 300, AHEAD, UP),
    ("RRA", (0, -500, 1150), 250, AHEAD, UP),
)
SEEN = (
    *("RASI", "LASI", "LPSI", "RPSI", "STRN", "T10", "RBAK", "CLAV", "C7"),
    *("LSHO", "LUPA", "LELB", "LWRA", "LWRB", "LFIN", "LFRA"),
    *("RSHO", "RUPA", "RELB", "RWRA", "RWRB", "RFIN", "RFRM"),
    *("LTHI", "LKNE", "LTIB", "LANK", "LHEE", "LTOE"),
    *("RTHI", "RKNE", "RTIB", "RANK", "RHEE", "RTOE"),
    *("LBHD", "RBHD", "RFHD", "LFHD"),
)


def standing(frames=1):
    """Markers of `frames` equal frames; the shoulders are 400 mm apart."""
    points = {name: (1.0, 2.0, 3.0) for name in SEEN}
    points |= {"LSHO": (0.0, 200.0, 1450.0), "RSHO": (0.0, -200.0, 1450.0)}
    for name, origin, up, x, z in SEGMENTS:
        origin, x, z = np.array(origin, float), np.array(x), np.array(z)
        for end, offset in zip("OPAL", (0 * z, up * z, 100 * x, 100 * np.cross(z, x)), strict=True):
            points[name + end] = origin + offset
    positions = np.array(list(points.values()), float)
    return Markers(tuple(points), np.repeat(positions[np.newaxis], frames, axis=0), "Walking_1.mat")


def write_npz(path, positions):
    np.savez_compressed(path, positions_3d=np.array(positions, object))


@pytest.fixture(scope="session")
def files():
    """The writers above."""
    return types.SimpleNamespace(**globals())


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """A folder with HumanEva-I as its authors hand it out; not to be changed."""
    folder = tmp_path_factory.mktemp("generated") / "HumanEva"
    write_synthetic(folder, SPEC)
    return folder


@pytest.fixture
def manual(tmp_path):
    folder = tmp_path / "manual"
    folder.mkdir()
    return folder


@pytest.fixture
def distribution(generated, manual):
    """The same in the folder of manual downloads, to be spoilt."""
    return shutil.copytree(generated, manual / "HumanEva")


@pytest.fixture
def make(tmp_path, manual):
    """Returns a data set of this test's folders."""
    return lambda **kwargs: human_eva(
        **{"data_dir": str(tmp_path / "tfds"), "manual_dir": str(manual), **kwargs}
    )
