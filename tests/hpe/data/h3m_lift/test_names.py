import re

import pytest

from ige.errors import UserError
from ige.hpe.data.h3m_lift import names


@pytest.mark.parametrize(
    ("text", "action", "name"),
    [
        ("Walking", "Walking", "Walking"),
        ("Walking 1", "Walking", "Walking 1"),
        ("Walking_1", "Walking", "Walking 1"),
        ("WalkTogether 10", "WalkTogether", "WalkTogether 10"),
        ("SittingDown 2", "SittingDown", "SittingDown 2"),
        ("Sitting", "Sitting", "Sitting"),
        ("TakingPhoto", "Photo", "Photo"),
        ("TakingPhoto_1", "Photo", "Photo 1"),
        ("WalkingDog 1", "WalkDog", "WalkDog 1"),
        ("WalkingDog", "WalkDog", "WalkDog"),
        ("WalkDog_2", "WalkDog", "WalkDog 2"),
    ],
)
def test_spellings(text, action, name):
    parsed = names.parse_name(text, "here")
    assert parsed.action == action
    assert str(parsed) == name


@pytest.mark.parametrize("text", ["", "1", "Walking 1 2", "Walking-1", "_ALL.old"])
def test_other_names_are_refused(text):
    message = (
        f"a.zip: b.h5: sequence name: got {text!r}, expected an action and perhaps a number, such "
        "as 'Walking 1'; rename or remove it"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        names.parse_name(text, "a.zip: b.h5")


def test_order_is_the_one_people_count_in():
    ordered = [
        ("S1", "Walking 2"),
        ("S9", "Sitting 3"),
        ("S9", "SittingDown"),
        ("S9", "Walking"),
        ("S9", "Walking 2"),
        ("S9", "Walking 10"),
        ("S11", "Directions"),
    ]
    assert sorted(reversed(ordered), key=lambda pair: names.sort_key(*pair)) == ordered


@pytest.mark.parametrize(
    ("subject", "split"), [("S1", "train"), ("S8", "train"), ("S9", "test"), ("S11", "test")]
)
def test_splits(subject, split):
    assert names.split_of(subject, "here") == split


def test_a_subject_without_poses_is_refused():
    message = "a.zip: subject: got 'S2', expected one of S1, S5, S6, S7, S8, S9, S11; remove it"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        names.split_of("S2", "a.zip")
