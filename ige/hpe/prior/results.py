"""results.h5: motions that were fitted, a group per sequence.

    /                       attributes: settings (JSON), skeleton, joints, parents
    /S9 Walking 55011271    attributes: subject, action, name, camera, frame_rate, iterations,
                            evaluations, converged, seconds, energy, energy_<term> ...
        poses               (n, J, 3) float32 mm, world frame, z up; in frames in which nothing is
                            seen between those around
        latents             (n, latents)
        heading             (n,) radians
        position            (n, 2) mm on the ground, world frame
        size                () mm per unit of the prior

While a fit runs, what is finished lies in the folder results.h5.parts, a file per batch.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from ige.data.damage import DAMAGE, one_line
from ige.errors import UserError
from ige.files import flush, write_bytes
from ige.hpe.skeleton import Skeleton

_NAME = re.compile(r"results(?:-([\w.+-]+))?\.h5")
_ARRAYS = ("poses", "latents", "heading", "position", "size")
# Those of a fit that are read again.
_ATTRIBUTES = ("energy", "frame_rate", "seconds")


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted motion.

    Attributes:
        key: name of the view.
        poses: (n, J, 3) mm, world frame, z up; as for the next four see the top of the file.
        latents: (n, latents).
        heading: (n,).
        position: (n, 2).
        size: ().
        attributes: of the group: where it is from, energies, iterations, seconds.
    """

    key: str
    poses: np.ndarray
    latents: np.ndarray
    heading: np.ndarray
    position: np.ndarray
    size: np.ndarray
    attributes: dict[str, Any]


def variant_of(name: str) -> str:
    """Returns what results are called besides: 'mine' of results-mine.h5; see `Problem.variant`.

    Raises:
        UserError: that is no name for results.
    """
    matched = _NAME.fullmatch(name)
    if not matched:
        raise UserError(
            f"hpe.PosePriorProblem.results: got {name!r}, expected results.h5 or a name such as "
            "results-mine.h5"
        )
    return matched[1] or ""


def _pack(fits: Sequence[Fit], settings: dict[str, Any], skeleton: Skeleton) -> bytes:
    """Returns a file of some fits."""
    packed = io.BytesIO()
    with h5py.File(packed, "w") as file:
        file.attrs["settings"] = json.dumps(settings)
        file.attrs["skeleton"] = skeleton.name
        file.attrs["joints"] = list(skeleton.joints)
        file.attrs["parents"] = skeleton.parents
        for fit in fits:
            group = file.create_group(fit.key)
            for name in _ARRAYS:
                group[name] = np.asarray(getattr(fit, name), np.float32)
            for name, value in fit.attributes.items():
                group.attrs[name] = value
    return packed.getvalue()


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[h5py.File]:
    """Opens a file of fits, whose damage is reported in one line."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno:
            raise  # of the system, such as a full disk while parts are joined
        # A KeyError shows what it says in quotes.
        reason = error.args[0] if isinstance(error, KeyError) else error
        raise UserError(
            f"{path} is damaged: {one_line(reason)}; expected fits as --command=infer writes them; "
            "remove this file and run --command=infer again"
        ) from error


def _settings(file: h5py.File) -> dict[str, Any]:
    """Returns what the fits of a file were made with."""
    settings = json.loads(file.attrs["settings"])
    if not isinstance(settings, dict) or not {"epoch", "weights"} <= settings.keys():
        raise ValueError(f"the attribute settings lacks epoch or weights: {settings}")
    return settings


def _fit(key: str, group: h5py.Group, joints: int) -> Fit:
    """Returns a fit of a file; poses have so many joints."""
    fit = Fit(key, *(group[name][()] for name in _ARRAYS), dict(group.attrs))
    n = len(fit.heading)
    expected = {
        "poses": (n, joints, 3),
        "latents": (n, fit.latents.shape[-1]),
        "heading": (n,),
        "position": (n, 2),
        "size": (),
    }
    for name, shape in expected.items():
        if getattr(fit, name).shape != shape:
            got = getattr(fit, name).shape
            raise ValueError(f"{key}/{name} has the shape {got}, expected {shape}")
    for name in _ATTRIBUTES:
        if name not in fit.attributes:
            raise ValueError(f"{key} has no attribute {name}")
    return fit


def read(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Fit]]:
    """Returns the settings of a fit, and key -> fit.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        unfinished = Parts(path).folder.is_dir()
        what = "was not finished" if unfinished else "has not been made"
        raise UserError(f"{path} {what}; run the same with --command=infer first")
    with _opened(path) as file:
        joints = len(file.attrs["joints"])
        fits = {key: _fit(key, group, joints) for key, group in file.items()}
        return _settings(file), fits


class Parts:
    """The finished part of a fit in progress: a folder of files, each written whole or not at all.

    Args:
        path: the file that they are to become.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.folder = path.with_name(f"{path.name}.parts")

    def _files(self) -> list[pathlib.Path]:
        return sorted(self.folder.glob("part-*.h5"))

    def settings(self) -> dict[str, Any] | None:
        """Returns the settings of what is there, finished or not; None if nothing is."""
        for path in (self.path, *self._files()):
            if path.is_file():
                with _opened(path) as file:
                    return _settings(file)
        return None

    def keys(self) -> set[str]:
        """Returns the views that are finished."""
        found = set()
        for path in (self.path, *self._files()):
            if path.is_file():
                with _opened(path) as file:
                    found |= set(file)
        return found

    def total(self) -> str:
        """Returns how much the finished file has, in one line."""
        with _opened(self.path) as file:
            frames = sum(len(group["poses"]) for group in file.values())
            energy = sum(group.attrs["energy"] for group in file.values())
            return f"{len(file)} sequences, {frames:,} frames, energy {energy:.4g}"

    def remove(self) -> None:
        """Removes what is there, finished or not."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.path.unlink(missing_ok=True)

    def add(self, fits: Sequence[Fit], settings: dict[str, Any], skeleton: Skeleton) -> None:
        """Writes what a batch gave."""
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(path.stem.rpartition("-")[2]) for path in self._files()]
        name = f"part-{max(numbers, default=0) + 1:06d}.h5"
        write_bytes(self.folder / name, _pack(fits, settings, skeleton))

    def join(self) -> None:
        """Makes the file of its parts, which are removed; does nothing if there are none."""
        parts = self._files()
        if not parts:
            return
        whole = self.folder / "whole.h5"
        with h5py.File(whole, "w") as file:
            for part in (*([self.path] if self.path.is_file() else []), *parts):
                with _opened(part) as source:
                    for name, value in source.attrs.items():
                        file.attrs[name] = value
                    # Killed while parts were being removed, they are in the file already.
                    for key in sorted(set(source) - set(file)):
                        source.copy(key, file)
        flush(whole)
        os.replace(whole, self.path)
        flush(self.path.parent)
        shutil.rmtree(self.folder)
