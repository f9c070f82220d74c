"""Subjects, splits, cameras and sequence names of Human3.6M, however a file spells them."""

import re
from typing import NamedTuple

from ige.errors import UserError

SPLITS = {"train": ("S1", "S5", "S6", "S7", "S8"), "test": ("S9", "S11")}
"""The split of nearly every paper: five subjects to learn from, two to test on."""

SUBJECTS = SPLITS["train"] + SPLITS["test"]

CAMERA_IDS = ("54138969", "55011271", "58860488", "60457274")
"""The four cameras, in the order in which archives without camera names list them."""

FRAME_RATE = 50.0
"""Poses and pictures per second."""

_SPELLINGS = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}  # S1's files -> everyone else's
_NAME = re.compile(r"([A-Za-z]+)(?: (\d+))?")


class SequenceName(NamedTuple):
    """One recording of a subject.

    Attributes:
        action: 'Walking'.
        trial: number that follows the action, -1 without one: Human3.6M counts "Walking",
            "Walking 1" or "Walking 1", "Walking 2".
    """

    action: str
    trial: int

    def __str__(self) -> str:
        return self.action if self.trial < 0 else f"{self.action} {self.trial}"


def parse_name(text: str, origin: str) -> SequenceName:
    """Returns the name behind a file's spelling: "WalkingDog_1" is WalkDog 1.

    Args:
        text: name of a recording: words and number apart by a space or an underscore.
        origin: where it was read, for the message.

    Raises:
        UserError: not a name of a recording.
    """
    match = _NAME.fullmatch(" ".join(text.replace("_", " ").split()))
    if not match:
        raise UserError(
            f"{origin}: sequence name: got {text!r}, expected an action and perhaps a number, "
            "such as 'Walking 1'; rename or remove it"
        )
    action, trial = match.groups()
    return SequenceName(_SPELLINGS.get(action, action), -1 if trial is None else int(trial))


def is_calibration(text: str) -> bool:
    """Whether a file name is one of the '_ALL' recordings, which belong to no action."""
    return text.startswith("_ALL")


def split_of(subject: str, origin: str) -> str:
    """Returns 'train' or 'test'.

    Raises:
        UserError: Human3.6M publishes no poses of this subject.
    """
    for split, subjects in SPLITS.items():
        if subject in subjects:
            return split
    raise UserError(
        f"{origin}: subject: got {subject!r}, expected one of {', '.join(SUBJECTS)}; remove it"
    )


def sort_key(subject: str, name: str) -> tuple[int, SequenceName]:
    """Returns what orders recordings as people do: S9 before S11, Walking 2 before Walking 10."""
    return int(subject[1:]), parse_name(name, subject)
