import re
import types

import pytest

from ige.errors import UserError
from ige.hpe.prior.problem import PosePriorProblem


def split_of(count, held_out):
    """Returns which of so many training sequences are held out, and which trained with."""
    dataset = types.SimpleNamespace(
        prepare=lambda: None, sequences=lambda split: list(range(count)) * (split == "train")
    )
    problem = PosePriorProblem(dataset, "h36m_17", held_out=held_out)
    return problem._sequences("validation"), problem._sequences("train")


@pytest.mark.parametrize(
    ("count", "held_out", "expected"),
    [
        (20, 0.1, [9, 19]),
        (12, 0.25, [3, 7, 11]),
        (5, 0.4, [2, 4]),
        (4, 0.75, [1, 2, 3]),
        (6, 0, []),
    ],
)
def test_as_many_sequences_are_held_out_as_are_asked_for(count, held_out, expected):
    held, trained = split_of(count, held_out)
    assert held == expected
    assert trained == [i for i in range(count) if i not in expected]


def test_holding_out_nothing_by_mistake_is_refused():
    message = (
        "hpe.PosePriorProblem.held_out: got 0.1 of 9 training sequences, which is none; choose "
        "more, or 0"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        split_of(9, 0.1)
