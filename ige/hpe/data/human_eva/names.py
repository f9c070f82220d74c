"""Subjects, actions, cameras and partitions of HumanEva-I, and the names of its recordings."""

import re
from typing import NamedTuple

from ige.errors import UserError

SUBJECTS = ("S1", "S2", "S3")
"""Those with published motion capture; that of S4, of trial 2 and of Combo was kept back."""

ACTIONS = ("Walking", "Jog", "ThrowCatch", "Gestures", "Box")

CAMERA_IDS = ("C1", "C2", "C3")
"""The colour cameras, which papers use. The four grey ones only take part in counting frames."""

ALL_CAMERAS = (*CAMERA_IDS, "BW1", "BW2", "BW3", "BW4")

FRAME_RATES = {1: 60.0, 3: 120.0}
"""Trial -> frames per second: of the videos, and of the motion capture, which trial 3 alone has."""

SPLITS = ("train", "test")

_PARTITIONS = {
    "S1": (
        (590, 1203, 3238),
        (367, 740, 3175),
        (473, 945, 3453),
        (395, 801, 2127),
        (385, 789, 1653),
    ),
    "S2": (
        (438, 876, 1523),
        (398, 795, 1573),
        (550, 1128, 3340),
        (500, 901, 3551),
        (382, 734, 3108),
    ),
    "S3": (
        (448, 939, 2358),
        (401, 842, 1973),
        (493, 1027, 2074),
        (533, 1102, 1789),
        (512, 1021, 1573),
    ),
}
"""Subject -> for every action, in their order, the last frame of the validation and of the training
part of trial 1, and of trial 3. As in version 1.1 of the support code of HumanEva's authors (its
class he_dataset); VideoPose3D's are the same. Other tables in use end elsewhere, S1 Walking with
frame 1180."""

_FIRST = 6  # of trial 1: the video codec repeats a picture at the start, so the authors skip five

EXCLUDED = {("S3", "ThrowCatch", 1): "its motion capture is damaged"}
"""(subject, action, trial) that nobody uses -> why; VideoPose3D leaves it out too."""

_CHUNK = re.compile(rf"({'|'.join(ACTIONS)}) ([13]) chunk(0|[1-9]\d{{0,5}})")


class Frames(NamedTuple):
    """A published part of a recording: frames `first` to `last`, both included, counted from 1."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def published_frames(subject: str, action: str, trial: int, split: str) -> Frames | None:
    """Returns the frames of a recording that belong to a split; None if there are none.

    Published are three partitions: training and validation, which make 'train' and 'test' here, and
    a test partition whose poses were kept back. Trial 3 is for training only.
    """
    validation, training, third = _PARTITIONS[subject][ACTIONS.index(action)]
    if trial == 3:
        return Frames(1, third) if split == "train" else None
    return Frames(validation + 1, training) if split == "train" else Frames(_FIRST, validation)


class ChunkName(NamedTuple):
    """What a sequence is called: 'Walking 1 chunk0'.

    Attributes:
        action: 'Walking'.
        trial: 1 or 3.
        chunk: number of the run of frames. As in VideoPose3D, runs without poses count: between
            chunk0 and chunk2 some frames have none.
    """

    action: str
    trial: int
    chunk: int

    def __str__(self) -> str:
        return f"{self.action} {self.trial} chunk{self.chunk}"


def parse_name(text: str, origin: str) -> ChunkName:
    """Returns the parts of the name of a sequence.

    Raises:
        UserError: not such a name.
    """
    match = _CHUNK.fullmatch(text)
    if not match:
        raise UserError(
            f"{origin}: sequence name: got {text!r:.60}, expected one of {', '.join(ACTIONS)} with "
            "trial and chunk, such as 'Walking 1 chunk0'; get the file again"
        )
    return ChunkName(match[1], int(match[2]), int(match[3]))


def sort_key(subject: str, name: str) -> tuple[str, ChunkName]:
    """Returns what orders sequences as people do: chunk2 before chunk10."""
    return subject, parse_name(name, subject)
