import re

import numpy as np
import pytest
from PIL import Image

from ige.errors import UserError
from ige.hpe.gif import write_gif
from ige.hpe.motion import Motion
from ige.hpe.skeleton import Skeleton

TOY = Skeleton("toy", ("pelvis", "left_foot", "right_foot", "head_top"), (-1, 0, 0, 0))
POSE = np.array([[0, 0, 1.0], [0.2, 0, 0], [-0.2, 0, 0], [0, 0, 1.6]])


def walking(frames, speed=0.01):
    """A person who slides to the right, metres a frame."""
    return POSE + speed * np.arange(frames)[:, np.newaxis, np.newaxis] * (1, 0, 0)


def nodding(frames):
    """A person whose head moves."""
    poses = np.tile(POSE, (frames, 1, 1))
    poses[:, 3, 0] = np.linspace(-0.3, 0.3, frames)
    return poses


def read(path):
    """Returns frames (n, height, width, 3) and their durations in ms."""
    frames, durations = [], []
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
    return np.array(frames), durations


def test_a_gif_is_as_fast_as_the_person_was(tmp_path):
    """50 fps: every second frame, 25 of them, 40 ms each."""
    write_gif(tmp_path / "a.gif", [Motion("truth", nodding(50), TOY)], 50)
    frames, durations = read(tmp_path / "a.gif")
    assert len(frames) == 25
    assert durations == 25 * [40]
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0  # for ever


def test_delays_that_are_no_hundredths_add_up(tmp_path):
    """30 fps: every second frame; 1/15 s is 6 2/3 hundredths: 7, 6, 7 make 20."""
    write_gif(tmp_path / "a.gif", [Motion("truth", nodding(18), TOY)], 30.0)
    assert read(tmp_path / "a.gif")[1] == 3 * [70, 60, 70]


@pytest.mark.parametrize(("rate", "frames"), [(5, 4), (25, 4), (100, 13)])
def test_the_number_of_frames_is_limited(tmp_path, rate, frames):
    """They are the first ones: at 100 fps rows 0, 4, 8 and 12."""
    write_gif(tmp_path / "a.gif", [Motion("truth", nodding(frames), TOY)], rate, max_frames=4)
    write_gif(tmp_path / "b.gif", [Motion("truth", nodding(frames), TOY)], rate, max_frames=3)
    a, b = read(tmp_path / "a.gif")[0], read(tmp_path / "b.gif")[0]
    assert (len(a), len(b)) == (4, 3)


def test_what_moves_is_the_head_and_what_stands_still_is_one_frame(tmp_path):
    still = Motion("truth", np.tile(POSE, (10, 1, 1)), TOY)
    write_gif(tmp_path / "still.gif", [still], 20)
    frames, durations = read(tmp_path / "still.gif")
    assert len(frames) == 1
    assert durations == [500]
    write_gif(tmp_path / "moving.gif", [Motion("truth", nodding(10), TOY)], 20)
    frames, durations = read(tmp_path / "moving.gif")
    assert sum(durations) == 500
    changes = (frames[1:] != frames[:-1]).any(axis=(1, 2, 3))
    assert changes.all()


def test_the_view_goes_with_a_walker_over_a_ground_that_stays(tmp_path):
    """Far from the ends the person stays where they are in the picture; the ground goes by.

    Speed and frame rate are powers of 2, so that rounding moves nobody by a pixel.
    """
    write_gif(tmp_path / "a.gif", [Motion("truth", walking(31, 1 / 64), TOY)], 4)
    frames = read(tmp_path / "a.gif")[0]
    inner = frames[10:-10].astype(int)
    blue = (inner[..., 2] - inner[..., 0]) > 170  # the left foot, without its blended edges
    assert blue.any()
    np.testing.assert_array_equal(blue[1:], np.broadcast_to(blue[0], blue[1:].shape))
    assert (inner[1:] != inner[:-1]).any(axis=(1, 2, 3)).all()


def test_the_ground_is_under_the_feet(tmp_path):
    """Also if one frame of forty is far too low. The ground is all there is beside the person."""
    poses = np.tile(POSE, (40, 1, 1)) + np.array([0, 0, 7])
    poses[20, 1, 2] -= 0.5
    write_gif(tmp_path / "a.gif", [Motion("truth", poses, TOY)], 10)
    first = read(tmp_path / "a.gif")[0][0].astype(int)
    blue = (first[..., 2] - first[..., 0] > 170)[:250]
    ground = (first[:250, 20:60] < 250).all(axis=2)
    assert ground.any()
    rows = np.flatnonzero(ground.any(axis=1))
    feet = np.flatnonzero(blue.any(axis=1)).max()
    assert rows.min() < feet < rows.max()


def test_panels_are_beside_one_another_in_order(tmp_path):
    """Only the middle one moves; the last has its errors in the title."""
    still = np.tile(POSE, (5, 1, 1))
    motions = [
        Motion("2D input", np.tile(np.array([[0, 0], [1, 2], [-1, 2], [0, -1.0]]), (5, 1, 1)), TOY),
        Motion("ground truth", nodding(5), TOY),
        Motion("prediction", still, TOY, np.tile(10.0 + np.arange(5)[:, np.newaxis], 4)),
    ]
    write_gif(tmp_path / "a.gif", motions, 10)
    frames = read(tmp_path / "a.gif")[0]
    height, width = frames.shape[1:3]
    assert width == 600
    changed = (frames != frames[0]).any(axis=(0, 3))
    assert not changed[:, :200].any()
    assert changed[:, 200:400].any()
    # The title counts up; the prediction below it does not move.
    assert changed[: height // 8, 400:].any()
    assert not changed[height // 8 :, 400:].any()


def test_a_prediction_is_drawn_thin_over_the_truth(tmp_path):
    """Both are in one panel: the truth 40 % opaque, the prediction, which leads by 0.2 m, in full
    colour; the view goes with the truth."""
    truth = Motion("truth", walking(5, 0), TOY)
    pair = (truth, Motion("fit", truth.poses + np.array([0.2, 0, 0]), TOY))
    write_gif(tmp_path / "alone.gif", [truth], 10)
    write_gif(tmp_path / "pair.gif", [truth, pair], 10)
    (alone,), (both,) = (read(tmp_path / name)[0] for name in ("alone.gif", "pair.gif"))
    assert both.shape[1] == 2 * alone.shape[1]
    panel = both[30:240, 200:].astype(int)
    orange = (panel[..., 0] - panel[..., 2]) > 180
    pale = ((panel[..., 0] - panel[..., 2]) > 60) & ~orange & (panel[..., 0] > 225)
    assert pale.sum() > 2 * orange.sum() > 20
    columns = [np.flatnonzero(mask.any(axis=0)).mean() for mask in (pale, orange)]
    assert columns[1] > columns[0] + 10


def test_the_colours_are_those_of_the_sides(tmp_path):
    write_gif(tmp_path / "a.gif", [Motion("truth", walking(2), TOY)], 10)
    present = {
        tuple(colour) for colour in np.unique(read(tmp_path / "a.gif")[0].reshape(-1, 3), axis=0)
    }
    for colour in ("#0072B2", "#D55E00", "#444444", "#FFFFFF"):
        assert tuple(bytes.fromhex(colour[1:])) in present


def test_a_person_of_one_point_can_be_drawn(tmp_path):
    motions = [Motion("2D", np.zeros((1, 4, 2)), TOY), Motion("3D", np.zeros((1, 4, 3)), TOY)]
    write_gif(tmp_path / "a.gif", motions, 0.5)
    frames, durations = read(tmp_path / "a.gif")
    assert len(frames) == 1
    assert durations == [2000]


def test_an_interrupted_gif_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.gif"
    path.write_text("old")
    drawn = []

    def interrupt(*_):
        drawn.append(len(drawn))
        if len(drawn) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("ige.hpe.gif._Panel.draw", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_gif(path, [Motion("truth", nodding(9), TOY)], 10)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("rate", [0, -25, np.nan, np.inf])
def test_the_frame_rate_is_positive(tmp_path, rate):
    message = f"frame_rate: got {rate}, expected frames per second, above 0"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        write_gif(tmp_path / "a.gif", [Motion("truth", walking(2), TOY)], rate)


def test_motions_are_finite(tmp_path):
    poses = walking(3)
    poses[1, 2, 0] = np.nan
    message = "truth: got NaN or infinity in 1 of 36 numbers, expected finite numbers"
    with pytest.raises(UserError, match=f"^{message}$"):
        write_gif(tmp_path / "a.gif", [Motion("truth", poses, TOY)], 10)
    motion = Motion("truth", walking(3), TOY, np.full((3, 4), np.inf))
    with pytest.raises(UserError, match=r"^errors of the truth: got NaN or infinity in 12 of 12 "):
        write_gif(tmp_path / "a.gif", [motion], 10)
    assert list(tmp_path.iterdir()) == []
