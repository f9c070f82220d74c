"""The calibrated cameras of HumanEva-I: its .cal files, and the constants for files without them.

Lengths are millimetres, pixels are pixels, rotations go from the world to the camera frame.
"""

import numpy as np

from ige.data.damage import reading
from ige.errors import UserError
from ige.geometry.cameras import Camera
from ige.geometry.rotations import quaternion_to_matrix
from ige.hpe.data.h3m_lift.checks import checked_camera
from ige.hpe.data.human_eva.names import CAMERA_IDS

_NUMBERS = 22

_INTRINSICS = {
    "C1": (765.789418, 765.330306, 299.773675, 232.347455),
    "C2": (688.411220, 686.786141, 273.089872, 221.974930),
    "C3": (724.267662, 723.569727, 302.629652, 204.912033),
}
"""Camera -> focal lengths and principal point, as in the .cal files of HumanEva-I. Elsewhere the
distortion of the lenses is not published for all three."""

_S1 = (
    ((0.424207, -0.4983646, -0.5802981, 0.4847012), (4062.227, 663.2477, 1528.397)),
    ((0.6503354, -0.7481602, -0.0919284, 0.0941766), (844.8131, -3805.2092, 1504.9929)),
    ((0.0664734, -0.0690535, 0.7416416, -0.6639132), (-797.67377, 3916.3174, 1433.6602)),
)
_EXTRINSICS = {
    "S1": _S1,
    "S2": (
        ((0.4214752, -0.4961493, -0.5838273, 0.4851187), (4112.9121, 626.4929, 1545.2988)),
        ((0.6501393, -0.7476588, -0.0954617, 0.0959808), (923.5740, -3877.9243, 1504.5518)),
        ((0.0699353, -0.0712403, 0.7421637, -0.662742), (-781.4915, 3838.8853, 1444.9929)),
    ),
    "S3": _S1,
}
"""Subject -> per camera, in the order of `CAMERA_IDS`: orientation as a quaternion (w, x, y, z)
from the camera to the world frame, then the camera centre; as in VideoPose3D's humaneva_dataset.py.
S3 was recorded with the calibration of S1."""


def published_cameras(subject: str) -> dict[str, Camera]:
    """Returns the three colour cameras of a subject, float64, without distortion."""
    return {
        camera_id: Camera(
            quaternion_to_matrix(np.array(orientation)).numpy().T,
            np.array(centre),
            np.array(_INTRINSICS[camera_id][:2]),
            np.array(_INTRINSICS[camera_id][2:]),
            np.zeros(3),
            np.zeros(2),
        )
        for camera_id, (orientation, centre) in zip(CAMERA_IDS, _EXTRINSICS[subject], strict=True)
    }


def read_numbers(data: bytes, origin: str) -> np.ndarray:
    """Returns the numbers of a text file that has nothing else.

    Raises:
        UserError: it has something else, or a number is not finite.
    """
    with reading(origin):
        numbers = np.array(data.decode("ascii").split(), np.float64)
    if not np.isfinite(numbers).all():
        raise UserError(f"{origin}: a number is not finite; get the file again")
    return numbers


def read_cal(data: bytes, origin: str) -> Camera:
    """Returns the camera of a .cal file, float64.

    It has 22 numbers: focal lengths, principal point, skew, distortion (k1, k2, p1, p2, k3), then
    rotation R (by rows) and translation t (mm) of x_camera = R x_world + t.

    The distortion is Brown's. `ige.geometry.cameras.distort` is Human3.6M's formula: the same
    radial and (p2, p1) r^2 terms, but p1 y + p2 x where Brown has twice that; its pixels differ by
    a fraction of a pixel in the corners. The poses do not depend on it.

    Raises:
        UserError: other numbers than these, skewed pixels, or no rotation.
    """
    numbers = read_numbers(data, origin)
    if len(numbers) != _NUMBERS:
        raise UserError(
            f"{origin}: got {len(numbers)} numbers, expected {_NUMBERS}; get the file again"
        )
    focal_length, center, skew, distortion, rotation, translation = np.split(
        numbers, np.cumsum([2, 2, 1, 5, 9])
    )
    if skew[0] != 0.0:
        raise UserError(
            f"{origin}: skew: got {skew[0]:.6g}, expected 0: no camera here has skewed pixels; "
            "get the file again"
        )
    rotation = rotation.reshape(3, 3)
    k1, k2, p1, p2, k3 = distortion
    camera = Camera(
        rotation,
        -rotation.T @ translation,
        focal_length,
        center,
        np.array([k1, k2, k3]),
        np.array([p1, p2]),
    )
    return checked_camera(camera, origin)
