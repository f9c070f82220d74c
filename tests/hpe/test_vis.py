import dataclasses
import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ige.errors import UserError
from ige.hpe import drawing, vis
from ige.hpe.motion import COLOURS
from ige.hpe.skeleton import Skeleton, get_skeleton

FLAT = Skeleton("flat", ("pelvis", "left_foot", "right_foot"), (-1, 0, 0))
TOY = Skeleton("toy", ("pelvis", "left_foot", "right_foot", "head_top"), (-1, 0, 0, 0))
TRUTH = np.array([[0, 0, 1.0], [0.2, 0, 0], [-0.2, 0, 0], [0, 0, 1.6]])
SHIFT = np.array([0.03, 0.04, 0])
# The 15 of Human3.6M.
ACTIONS = [
    *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases"),
    *("Sitting", "SittingDown", "Smoking", "Waiting", "WalkDog", "WalkTogether", "Walking"),
]


def example(rank="best", name="S9 Walking 1, camera 3, frame 120", **changes):
    values = {
        "pose_2d": np.array([[0.0, 0.1], [0.05, 0.4], [-0.05, 0.4]]),
        "input_skeleton": FLAT,
        "truth": TRUTH,
        "scaled": 1.1 * TRUTH,
        "aligned": TRUTH + SHIFT,
        "skeleton": TOY,
        "scaled_error": 123.44,
        "aligned_error": 50.0,
    }
    return vis.Example(rank, name, **(values | changes))


def drawn(figure):
    """Draws a figure as it is drawn into a file; returns the renderer."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def texts_of(figure):
    for axes in figure.axes:
        yield axes.title
        yield axes._left_title
        if axes.axison:
            yield from (axes.xaxis.label, axes.yaxis.label)
            for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
                places = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
                yield from (text for x, text in places if min(limits) <= x <= max(limits))
        if axes.get_legend():
            yield from axes.get_legend().get_texts()
    yield from figure.texts
    for legend in figure.legends:
        yield from legend.get_texts()


def assert_legible(figure):
    """No text is cut off, none lies on another, none is below 7 points."""
    renderer = drawn(figure)
    texts = [text for text in texts_of(figure) if text.get_text()]
    assert texts
    boxes = [text.get_window_extent(renderer) for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert text.get_fontsize() >= 7
        assert min(box.x0, box.y0) >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    named = zip(texts, boxes, strict=True)
    for (a, one), (b, other) in itertools.combinations(named, 2):
        assert not one.overlaps(other), (a, b)


def test_an_example_is_input_scaled_and_aligned():
    figure = vis.draw_examples([example()])
    flat, scaled, aligned = figure.axes
    left, right, centre = flat.lines
    nan = np.nan
    np.testing.assert_allclose(left.get_xydata(), [[0.05, 0.4], [0, 0.1], [nan, nan]])
    np.testing.assert_allclose(right.get_xydata(), [[-0.05, 0.4], [0, 0.1], [nan, nan]])
    assert len(centre.get_xydata()) == 0
    assert flat.yaxis_inverted()
    assert not flat.xaxis_inverted()
    assert [axes.get_title() for axes in figure.axes] == ["", "123.4 mm", "50.0 mm"]
    for axes, shift in ((scaled, 1.1 * TRUTH - TRUTH), (aligned, SHIFT)):
        _, *lines = axes.lines  # after the ground
        assert [line.get_color() for line in lines] == 2 * list(COLOURS.values())
        for line, poses in zip(lines, 3 * [TRUTH] + 3 * [TRUTH + shift], strict=True):
            side = {colour: side for side, colour in COLOURS.items()}[line.get_color()]
            expected = drawing.bone_paths(drawing.project(poses), TOY)[side]
            np.testing.assert_allclose(line.get_xydata(), expected, atol=1e-12)
        assert [line.is_dashed() for line in lines] == 3 * [False] + 3 * [True]
        widths = [line.get_linewidth() for line in lines]
        assert min(widths[:3]) > 2 * max(widths[3:])


def test_a_person_is_in_the_middle_of_the_ground_wherever_the_camera_is():
    away = TRUTH + np.array([7, -3, 0.4])
    changes = {"truth": away, "scaled": away, "aligned": away}
    ours = vis.draw_examples([example(**changes)]).axes[1]
    at_origin = {"truth": TRUTH, "scaled": TRUTH, "aligned": TRUTH}
    for one, other in zip(
        ours.lines, vis.draw_examples([example(**at_origin)]).axes[1].lines, strict=True
    ):
        np.testing.assert_allclose(one.get_xydata(), other.get_xydata(), atol=1e-12)


def test_the_panels_of_poses_share_one_scale_and_metres_are_as_long_across_as_up():
    figure = vis.draw_examples([example(aligned=TRUTH)])
    _, scaled, aligned = figure.axes
    assert scaled.get_xlim() == pytest.approx(aligned.get_xlim())
    assert scaled.get_ylim() == pytest.approx(aligned.get_ylim())
    drawn(figure)
    for axes in figure.axes:
        across, down = axes.transData.transform([(1, 0), (0, 1)]) - axes.transData.transform((0, 0))
        assert across[0] == pytest.approx(-down[1])


def test_six_examples_are_as_wide_as_a_page_and_legible():
    names = [f"S11 {action}, camera 58860488, frame 1234" for action in ACTIONS[-6:]]
    ranks = ["best", "best", "median", "median", "worst", "worst"]
    figure = vis.draw_examples([example(*both) for both in zip(ranks, names, strict=True)])
    assert 6.5 < figure.get_figwidth() < 7.3
    assert_legible(figure)
    texts = [text.get_text() for text in figure.texts]
    assert [texts.count(rank) for rank in ("best", "median", "worst")] == [1, 1, 1]
    assert "S11 WalkTogether\ncamera 58860488\nframe 1234" in texts
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["left", "right", "centre", "ground truth", "prediction", "squares of 0.5 m"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 100,
        "/home/someone/a recording with a long name.bvh, camera 58860488, left half, frame 12",
    ],
)
def test_names_that_do_not_fit_are_shortened(name):
    assert_legible(vis.draw_examples([example(name=name), example(rank="", name=name)]))


def test_examples_without_extent_can_be_drawn():
    point = np.zeros((4, 3))
    changes = {"truth": point, "scaled": point, "aligned": point, "scaled_error": 0.0}
    figure = vis.draw_examples([example(pose_2d=np.zeros((3, 2)), **changes)])
    drawn(figure)
    assert figure.axes[1].get_title() == "0.0 mm"


@pytest.mark.parametrize("name", ["pose_2d", "truth", "scaled", "aligned", "scaled_error"])
def test_an_example_is_finite(name):
    good = getattr(example(), name)
    with pytest.raises(UserError, match=rf"^S9 Walking 1, .*: {name}: got NaN or infinity in "):
        dataclasses.replace(example(), **{name: good * np.nan})


def test_errors_by_joint_by_action_and_their_distribution():
    """Means, medians and quartiles of 1, 2, 3, 4, 10 and of three times that, by hand."""
    first = np.array([1.0, 2, 3, 4, 10])
    joint_errors = np.stack([3 * first, first, np.full(5, 8.0)], axis=1)
    joints = ("right_hip", "left_hip", "head_top")
    figure = vis.draw_errors(joint_errors, ["B", "B", "B", "A", "A"], joints, "distance")
    by_joint, by_action, distribution = figure.axes

    assert [label.get_text() for label in by_joint.get_yticklabels()] == ["head top", "hip"]
    assert by_joint.yaxis_inverted()
    quartiles, means, medians = (by_joint.lines[i::3] for i in range(3))
    assert [tuple(line.get_xdata()) for line in quartiles] == [(8, 8), (2, 4), (6, 12)]
    assert [line.get_xdata()[0] for line in means] == [8, 4, 12]
    assert [line.get_xdata()[0] for line in medians] == [8, 3, 9]
    colours = [COLOURS[side] for side in ("centre", "left", "right")]
    assert [line.get_color() for line in medians] == colours
    rows = [line.get_ydata()[0] for line in medians]
    assert rows[0] == 0
    assert rows[1] + rows[2] == 2
    assert rows[1] < rows[2]

    # The errors of the poses are (4 x + 8) / 3: 4, 5.33, 6.67, 8, 16.
    labels = [label.get_text() for label in by_action.get_yticklabels()]
    assert labels == ["A (2)", "B (3)", "all (5)"]
    means, medians = by_action.lines[1::3], by_action.lines[2::3]
    np.testing.assert_allclose([line.get_xdata()[0] for line in means], [12, 16 / 3, 8])
    np.testing.assert_allclose([line.get_xdata()[0] for line in medians], [12, 16 / 3, 20 / 3])

    legend = [text.get_text() for text in distribution.get_legend().get_texts()]
    assert legend == ["median 6.7 mm", "mean 8.0 mm"]
    assert sum(bar.get_height() for bar in distribution.patches) == pytest.approx(100)
    assert [axes.get_xlabel() for axes in figure.axes] == 3 * ["distance (mm)"]
    assert distribution.get_ylabel() == "poses (%)"


def test_far_errors_are_counted_instead_of_drawn():
    errors = np.r_[np.full(999, 10.0), 500][:, np.newaxis]
    distribution = vis.draw_errors(errors, 1000 * ["A"], ["pelvis"], "error").axes[2]
    assert distribution.get_title(loc="left") == (
        "distribution (0.1 % of the poses lie beyond, up to 500 mm)"
    )
    assert distribution.get_xlim() == pytest.approx((0, 10.2))
    assert sum(bar.get_height() for bar in distribution.patches) == pytest.approx(99.9)


def test_joints_go_from_the_head_down_and_unknown_ones_come_last():
    joints = ("tail", "left_ankle", "right_ankle", "pelvis", "nose", "right_wrist", "left_wrist")
    figure = vis.draw_errors(np.ones((2, 7)), ["A", "A"], joints, "error")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["nose", "wrist", "pelvis", "ankle", "tail"]


@pytest.mark.parametrize("poses", [1, 45])
@pytest.mark.parametrize("size", [0, 60])
def test_errors_are_legible(poses, size):
    joint_errors = size * np.random.default_rng(0).random((poses, 17))
    joints = get_skeleton("h36m_17").joints
    figure = vis.draw_errors(joint_errors, (3 * ACTIONS)[:poses], joints, "MPJPE at the best scale")
    assert_legible(figure)


def test_errors_are_finite():
    message = "joint_errors: got NaN or infinity in 1 of 2 numbers, expected finite numbers"
    with pytest.raises(UserError, match=f"^{message}$"):
        vis.draw_errors(np.array([[1.0], [np.nan]]), ["A", "A"], ["pelvis"], "error")


def band(axes, number, steps):
    """Returns the lower and the upper edge (2, steps) of a band."""
    vertices = axes.collections[number].get_paths()[0].vertices
    columns = [vertices[vertices[:, 0] == step, 1] for step in range(steps)]
    return np.array([[column.min() for column in columns], [column.max() for column in columns]])


def test_a_descent_is_medians_and_quartiles():
    """The quartiles of 1, 2, 3, 4, 10 are 2 and 4, by hand; energies count from the first one."""
    values = np.array([1.0, 2, 3, 4, 10])[:, np.newaxis]
    energies = np.array([7.0, -50, 0, 900, 3])[:, np.newaxis] - values * [0, 1, 3]
    errors = {"loss": values * [10, 5, 4], "aligned": values * [6, 2, 1]}
    figure = vis.draw_descent(energies, errors, 2)
    energy, error = figure.axes
    for axes, number, median, low, high in (
        (energy, 0, [0, -3, -9], [0, -4, -12], [0, -2, -6]),
        (error, 0, [30, 15, 12], [20, 10, 8], [40, 20, 16]),
        (error, 1, [18, 6, 3], [12, 4, 2], [24, 8, 4]),
    ):
        np.testing.assert_allclose(axes.lines[number].get_xydata(), [*enumerate(median)])
        np.testing.assert_allclose(band(axes, number, 3), [low, high])
    assert [len(axes.lines) for axes in figure.axes] == [1, 2]
    assert [text.get_text() for text in error.get_legend().get_texts()] == ["loss", "aligned"]
    assert error.get_ylim()[0] == 0
    assert error.get_ylabel() == "error (mm)"
    assert [text.get_text() for text in figure.texts] == ["median and quartiles of 5 poses"]
    # Without colour too.
    one, other = error.lines
    assert one.is_dashed() != other.is_dashed()
    assert one.get_marker() != other.get_marker()


def test_steps_beyond_those_of_training_are_marked():
    figure = vis.draw_descent(np.zeros((2, 6)), {"error": np.ones((2, 6))}, 3)
    for axes in figure.axes:
        np.testing.assert_array_equal(axes.lines[-1].get_xdata(), [3, 3])
        assert "3 steps in training" in [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("poses", [1, 40])
@pytest.mark.parametrize("size", [0, 1e-4, 3000])
def test_a_descent_is_legible(poses, size):
    values = size * np.random.default_rng(0).random((poses, 21))
    errors = {"best scale about the camera": values, "Procrustes": values / 2}
    assert_legible(vis.draw_descent(-values, errors, 4))
    assert_legible(vis.draw_descent(values[:, :2], {"Procrustes": values[:, :2]}, 1))


@pytest.mark.parametrize("name", ["energies", "aligned"])
def test_a_descent_is_finite(name):
    values = {"energies": np.ones((1, 2)), "aligned": np.ones((1, 2))}
    values[name] = np.array([[1, np.inf]])
    message = f"^{name}: got NaN or infinity in 1 of 2 numbers, expected finite numbers$"
    with pytest.raises(UserError, match=message):
        vis.draw_descent(values["energies"], {"aligned": values["aligned"]}, 1)
