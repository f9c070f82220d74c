"""Which moment of the motion capture a published frame is: the .ofs files."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ige.errors import UserError
from ige.hpe.data.human_eva.cameras import read_numbers

_FASTEST = 100.0  # motion capture frames per picture; in HumanEva-I there are two


class Offset(NamedTuple):
    """What a .ofs file says of a camera: picture `image` shows motion capture frame `mocap`.

    Attributes:
        image: picture, counted from 1.
        mocap: frame, counted from 1, with a fraction.
        scale: frames per picture.
    """

    image: float
    mocap: float
    scale: float


def read_ofs(data: bytes, origin: str) -> Offset:
    """Returns the numbers of a .ofs file.

    Raises:
        UserError: other numbers than these three, or a scale that is none.
    """
    numbers = read_numbers(data, origin)
    if len(numbers) != 3:
        raise UserError(f"{origin}: got {len(numbers)} numbers, expected 3; get the file again")
    offset = Offset(*map(float, numbers))
    if not 0.0 < offset.scale <= _FASTEST:
        raise UserError(
            f"{origin}: frames per picture: got {offset.scale:.6g}, expected more than 0 and at "
            f"most {_FASTEST:g}; get the file again"
        )
    return offset


class Timeline(NamedTuple):
    """The frames that all streams of a recording share; published frame numbers count them.

    Attributes:
        start: motion capture frame, counted from 1, of frame 1.
        scale: motion capture frames per frame.
    """

    start: float = 1.0
    scale: float = 1.0

    def positions(self, first: int, last: int) -> np.ndarray:
        """Returns where frames `first` to `last` are in the motion capture, counted from 0."""
        return self.start - 1.0 + np.arange(first - 1, last) * self.scale


def common_timeline(offsets: Sequence[Offset]) -> Timeline:
    """Returns the timeline of the recording whose cameras have these offsets.

    As in the authors' support code: frame 1 is the first picture of the camera that began first, or
    of the motion capture if that began later.
    """
    reference = offsets[0].mocap
    begins = [o.image + (reference - o.mocap) / o.scale for o in offsets]
    scale = sum(o.scale for o in offsets) / len(offsets)
    return Timeline(max(reference - scale * (min(begins) - 1.0), 1.0), scale)
