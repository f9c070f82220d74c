import re

import pytest

from ige.errors import UserError
from ige.hpe.data.human_eva import names
from ige.hpe.data.human_eva.names import published_frames

VALIDATION_END = {"Walking": 590, "Jog": 367, "ThrowCatch": 473, "Gestures": 395, "Box": 385}


@pytest.mark.parametrize("action", names.ACTIONS)
def test_partitions_of_s1(action):
    """The validation part begins with frame 6, the training part follows it."""
    validation = published_frames("S1", action, 1, "test")
    assert validation == (6, VALIDATION_END[action])
    assert validation.length == VALIDATION_END[action] - 5
    training = published_frames("S1", action, 1, "train")
    assert training.first == VALIDATION_END[action] + 1
    assert published_frames("S1", action, 3, "test") is None
    assert published_frames("S1", action, 3, "train").first == 1


@pytest.mark.parametrize(
    ("subject", "action", "split", "start", "end"),
    [
        ("S1", "Walking", "train", 590, 1203),
        ("S2", "ThrowCatch", "train", 550, 1128),
        ("S2", "Gestures", "train", 500, 901),
        ("S3", "Box", "train", 512, 1021),
        ("S1", "Jog", "test", 5, 367),
        ("S3", "Walking", "test", 5, 448),
    ],
)
def test_partitions_are_those_of_videopose3d(subject, action, split, start, end):
    """Its table has frames counted from 0, of which the last one is not included."""
    assert published_frames(subject, action, 1, split) == (start + 1, end)


def test_how_many_frames_are_published():
    every = [(subject, action) for subject in names.SUBJECTS for action in names.ACTIONS]
    count = {
        (trial, split): sum(published_frames(*each, trial, split).length for each in every)
        for trial, split in ((1, "test"), (1, "train"), (3, "train"))
    }
    # The last frames of S1, S2 and S3; validation begins with the sixth, training after it.
    validation = 2210 + 2268 + 2387
    assert count[1, "test"] == validation - 15 * 5
    assert count[1, "train"] == 4478 + 4434 + 4931 - validation
    assert count[3, "train"] == 13646 + 13095 + 9767


def test_names_of_sequences():
    name = names.parse_name("ThrowCatch 1 chunk10", "file")
    assert name == ("ThrowCatch", 1, 10)
    assert str(name) == "ThrowCatch 1 chunk10"
    ordered = [("S1", "Jog 1 chunk2"), ("S1", "Jog 1 chunk10"), ("S2", "Box 3 chunk0")]
    assert sorted(reversed(ordered), key=lambda each: names.sort_key(*each)) == ordered


@pytest.mark.parametrize(
    "text", ["Walking 1", "Walking 2 chunk0", "Combo 1 chunk0", "Walking 1 chunk-1", ""]
)
def test_other_names_are_refused(text):
    message = (
        f"file: sequence name: got {text!r}, expected one of Walking, Jog, ThrowCatch, Gestures, "
        "Box with trial and chunk, such as 'Walking 1 chunk0'; get the file again"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        names.parse_name(text, "file")
