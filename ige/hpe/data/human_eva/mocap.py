"""Motion capture of HumanEva-I: markers of .mat files, measurements of .mp files."""

import dataclasses
import re
from typing import Any

import numpy as np

from ige.data.damage import reading
from ige.errors import UserError
from ige.hpe.data.human_eva.mat import read_mat5

_VARIABLES = ("Markers", "ParameterGroup")
_MEASUREMENT = re.compile(r"\$(\w+)\s*=\s*(\S+)")


@dataclasses.dataclass(frozen=True)
class Markers:
    """Where the markers were.

    Attributes:
        labels: name of every marker.
        positions: (n, markers, 3) float64 mm, world frame, z up; NaN where a marker was not seen.
        origin: names the file, for messages.
    """

    labels: tuple[str, ...]
    positions: np.ndarray
    origin: str

    def index(self, *names: str) -> int:
        """Returns where the first marker that has one of these names is.

        Raises:
            UserError: there is none.
        """
        for name in names:
            if name in self.labels:
                return self.labels.index(name)
        raise UserError(
            f"{self.origin}: LABELS: no marker {' or '.join(names)} among {len(self.labels)}; "
            "get the file again"
        )

    def at(self, *names: str) -> np.ndarray:
        """Returns the positions (n, 3) of the first marker that has one of these names."""
        return self.positions[:, self.index(*names)]

    def axes(self, name: str) -> np.ndarray:
        """Returns the axes of a segment, (n, 3, 3): x, y and z as columns, of length 1.

        The origin `name` is followed by a point on the z, the x and the y axis.

        Raises:
            UserError: there is no such segment.
        """
        first = self.index(name)
        if first + 3 >= self.positions.shape[1]:
            raise UserError(
                f"{self.origin}: Markers: {name} is marker {first + 1} of "
                f"{self.positions.shape[1]}, expected the points of three axes after it; get the "
                "file again"
            )
        axes = self.positions[:, first + np.array([2, 3, 1])] - self.positions[:, [first]]
        with np.errstate(invalid="ignore"):
            axes = axes / np.linalg.norm(axes, axis=-1, keepdims=True)
        return np.swapaxes(axes, -1, -2)


def read_mat(data: bytes, origin: str) -> Markers:
    """Returns the markers of a .mat file.

    `Markers` is (n, markers, 3), `ParameterGroup` what the .c3d file says: names are in its group
    POINT, parameter LABELS. A marker that was not seen is at (0, 0, 0).

    Raises:
        UserError: damaged, or something else.
    """
    with reading(origin):
        content = read_mat5(data, _VARIABLES)
        if missing := [name for name in _VARIABLES if name not in content]:
            raise ValueError(f"{' and '.join(missing)} missing")
        positions = np.array(content["Markers"], np.float64)
        groups = content["ParameterGroup"]
        labels = _named(_named(groups, "POINT")["Parameter"], "LABELS")["data"]
        # People's names may come before those of their markers: "Subject:LANK".
        labels = tuple(_text(label).rpartition(":")[2].strip() for label in labels)
    if positions.ndim != 3 or positions.shape[2] != 3 or not len(positions):
        raise UserError(
            f"{origin}: Markers: got shape {positions.shape}, expected (frames, markers, 3); "
            "get the file again"
        )
    if not 0 < len(labels) <= positions.shape[1]:
        raise UserError(
            f"{origin}: LABELS: got {len(labels)} names of {positions.shape[1]} markers; "
            "get the file again"
        )
    seen = np.isfinite(positions).all(axis=-1) & positions.any(axis=-1)
    positions[~seen] = np.nan
    return Markers(labels, positions, origin)


def _named(structs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Returns the struct of that name.

    Raises:
        ValueError: there is none.
    """
    for element in structs:
        if _text(element["name"]) == name:
            return element
    raise ValueError(f"{name} missing")


def _text(value: Any) -> str:
    """Returns the text in a cell, or in cells in it; '' if there is none."""
    while isinstance(value, list) and len(value) == 1:
        (value,) = value
    return value.strip() if isinstance(value, str) else ""


def read_mp(data: bytes, origin: str) -> dict[str, float]:
    """Returns the measurements of a person by name, from the lines `$Name = value` of a .mp file.

    Raises:
        UserError: not text, or a value that is no number.
    """
    with reading(origin):
        text = data.decode("ascii")
        return {name: float(value) for name, value in _MEASUREMENT.findall(text)}


def measurement(measurements: dict[str, float], name: str, origin: str) -> float:
    """Returns one of the measurements of a person, millimetres.

    Raises:
        UserError: it is missing, or no length.
    """
    if name not in measurements:
        raise UserError(f"{origin}: ${name} is missing; get the file again")
    value = measurements[name]
    if not 0.0 <= value <= 1000.0:
        raise UserError(
            f"{origin}: ${name}: got {value:.6g}, expected 0 to 1000 mm; get the file again"
        )
    return value
