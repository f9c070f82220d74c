import re

import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe.data.human_eva.sync import Offset, Timeline, common_timeline, read_ofs


def test_an_offset_file():
    assert read_ofs(b"82.000000 \n1.500000 \n2.001000 \n", "x.ofs") == Offset(82.0, 1.5, 2.001)


@pytest.mark.parametrize(
    ("offsets", "start", "scale"),
    [
        # Picture 10 is frame 101, so picture 1 is nine pictures of two frames before that.
        ([Offset(10, 101, 2)], 83.0, 2.0),
        # The second began two pictures later: its picture 12 is where that of the first is 10.
        ([Offset(10, 101, 2), Offset(12, 101, 2)], 83.0, 2.0),
        # Picture 8 of the second is frame 103, its picture 7 frame 101: it began three later.
        ([Offset(10, 101, 2), Offset(8, 103, 2)], 89.0, 2.0),
        # The motion capture began after the pictures.
        ([Offset(10, 5, 2)], 1.0, 2.0),
        # A mean of scales: the second's picture 10 + (101 - 109) / 4 = 8 is frame 101.
        ([Offset(10, 101, 2), Offset(10, 109, 4)], 101 - 3 * 7, 3.0),
    ],
)
def test_the_common_timeline(offsets, start, scale):
    assert common_timeline(offsets) == (start, scale)


def test_where_frames_are():
    """Frame 6 is five frames after the first one, which is frame 83 of 1, 2, ..."""
    np.testing.assert_array_equal(Timeline(83.0, 2.5).positions(6, 8), [94.5, 97.0, 99.5])
    np.testing.assert_array_equal(Timeline().positions(1, 3), [0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"82 \n1 \n", "x.ofs: got 2 numbers, expected 3; get the file again"),
        (b"", "x.ofs: got 0 numbers, expected 3; get the file again"),
        (b"82 \n1 \ninf \n", "x.ofs: a number is not finite; get the file again"),
        (
            b"82 \n1 \n0 \n",
            "x.ofs: frames per picture: got 0, expected more than 0 and at most 100; get the file "
            "again",
        ),
    ],
)
def test_other_files_are_refused(data, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        read_ofs(data, "x.ofs")
