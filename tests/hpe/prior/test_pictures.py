"""What `vis` draws of a prior of poses: of a generator that is known by hand, and made-up fits."""

import dataclasses
import types

import keras
import numpy as np
import pytest
from PIL import Image

from ige.errors import UserError
from ige.geometry.cameras import Camera
from ige.hpe import drawing, metrics
from ige.hpe.data.sequences import PoseSequence
from ige.hpe.prior import latent, pictures, results
from ige.hpe.prior.problem import PosePriorProblem
from ige.hpe.skeleton import get_skeleton

H36M_17 = get_skeleton("h36m_17")
HEIGHT = 1.6
FRAMES = 6  # of a recording; every second one is fitted
# World to camera: looks along the world's x, its right is the world's -y.
ROTATION = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0.0]])
CAMERAS = {
    name: Camera(
        ROTATION, np.array([x, 0, 1000.0]), *np.full((2, 2), 500.0), np.zeros(3), np.zeros(2)
    )
    for name, x in (("near", -4000), ("far", -8000))
}


def _person():
    """(17, 3) mm: stands at the origin, 1.6 m from ankles to the top of the head, left at +x."""
    heights = {"hip": 0.9, "knee": 0.5, "ankle": 0.1, "shoulder": 1.4, "elbow": 1.1, "wrist": 0.8}
    heights |= {"pelvis": 0.9, "spine": 1.15, "thorax": 1.4, "nose": 1.55, "head_top": 1.7}
    x = {"left": 0.2, "right": -0.2, "centre": 0.0}
    return 1000 * np.array(
        [
            (x[side], 0, heights[joint.removeprefix("left_").removeprefix("right_")])
            for joint, side in zip(H36M_17.joints, H36M_17.sides, strict=True)
        ]
    )


class Dataset:
    """Stands for a tfds builder: three recordings of each split, of people who walk along y."""

    provenance = {"dataset": "made up"}
    skeleton = H36M_17
    keypoint_skeleton = None

    def prepare(self):
        """Does nothing."""

    def sequences(self, split):
        walk = np.arange(FRAMES)[:, np.newaxis, np.newaxis] * np.array([0, 100, 0])
        return [
            PoseSequence(
                {"train": "S1", "test": "S9"}[split],
                name.partition(" ")[0],
                name,
                20.0,
                (_person() + walk).astype(np.float32),
                CAMERAS,
                {},
            )
            for name in ("Walking", "Walking 1", "Eating")
        ]


# A pose is the person in heights, plus each of two latents times one of these.
DIRECTIONS = np.random.default_rng(5).normal(scale=0.02, size=(2, 17, 3))


def _poses(latents):
    """Returns what the generator makes of latents (n, 2), in metres."""
    return _person() / 1000 + HEIGHT * np.tensordot(latents, DIRECTIONS, 1)


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((2,), name="latent")
    dense = keras.layers.Dense(51)
    generator = keras.Model({"latent": inputs}, keras.layers.Reshape((17, 3))(dense(inputs)))
    dense.set_weights([DIRECTIONS.reshape(2, 51), _person().ravel() / 1000 / HEIGHT])
    return types.SimpleNamespace(generator=generator)


def _problem(**changes):
    options = {"skeleton": "h36m_17", "latents": 2, "center": ("pelvis",)}
    return PosePriorProblem(Dataset(), **(options | changes))


def _draw(folder, model, problem, example=None, files=False, split="test"):
    """Draws; returns the arguments of those who write files, by what they write, and what was
    made."""
    calls = {}
    (folder / "vis").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for key, module, name in (
            ("figure", pictures, "save"),
            ("errors", pictures.vis, "draw_errors"),
            ("gif", pictures, "write_gif"),
            ("page", pictures, "write_viewer"),
            ("latent", latent, "write_viewer"),
        ):
            function = getattr(module, name)
            if not files and key != "errors":  # what is drawn is looked at, not drawn

                def function(*args, **kwargs):
                    pass

            def call(*args, function=function, key=key, **kwargs):
                calls[key] = (*args, kwargs)
                return function(*args, **kwargs)

            patch.setattr(module, name, call)
        made = problem.vis(model, split, 256, folder / "vis", example, folder)
    return calls, made


@pytest.fixture
def draw(model, tmp_path):
    """Draws a run in `tmp_path`; see `_draw`."""

    def draw(example=None, problem=None, model=model, **options):
        return _draw(tmp_path, model, problem or _problem(), example, **options)

    return draw


def _write_fits(path):
    """Writes what `infer` might have: the truth, 10 % larger, 0.3 m aside in x, and the left wrist
    off by 2, 4 and 6 cm in y in one sequence and the next."""
    problem, parts, fits = _problem(), results.Parts(path), []
    for i, view in enumerate(problem.views("test")):
        poses = 1100 * view.poses + np.array([300, 0, 0])
        poses[:, H36M_17.index("left_wrist"), 1] += 20 * (1 + i // 2)
        count = len(poses)
        blanks = (np.zeros((count, 2)), np.zeros(count), np.zeros((count, 2)), np.float32(1600))
        attributes = {"energy": 1.0, "frame_rate": 10.0, "seconds": 1.0}
        fits.append(results.Fit(view.key, poses, *blanks, attributes))
    parts.add(fits, {"epoch": "1", "weights": "0"}, problem.skeleton)
    parts.join()


@pytest.fixture
def fitted(tmp_path):
    _write_fits(tmp_path / "results.h5")
    return tmp_path / "results.h5"


@pytest.fixture(scope="module")
def drawn(model, tmp_path_factory):
    """The arguments of those who write the files of a run with fits; see `_draw`."""
    folder = tmp_path_factory.mktemp("fitted")
    _write_fits(folder / "results.h5")
    return _draw(folder, model, _problem())


def _points(axes):
    """Returns the ends of the bones that are drawn in axes, after the ground, side by side."""
    return np.concatenate([line.get_xydata() for line in axes.lines[1:]])


def _projected(pose):
    return np.concatenate(list(drawing.bone_paths(drawing.project(pose), H36M_17).values()))


def test_files_without_fits(draw, tmp_path, capsys):
    _, made = draw(files=True)
    names = ["generated.png", "latent.html"]
    assert made.paths == [tmp_path / "vis" / name for name in names]
    assert sorted(path.name for path in (tmp_path / "vis").iterdir()) == names
    assert len(made.figures) == 1
    assert capsys.readouterr().out == (
        f"{tmp_path / 'results.h5'} has no fitted motions of these sequences: --command=infer "
        "would add errors.png, sequence.gif and viewer.html\n"
    )


def test_files_with_fits(draw, fitted, tmp_path, capsys):
    _, made = draw(files=True)
    names = ["generated.png", "errors.png", "latent.html", "sequence.gif", "viewer.html"]
    assert made.paths == [tmp_path / "vis" / name for name in names]
    assert sorted(path.name for path in (tmp_path / "vis").iterdir()) == sorted(names)
    assert len(made.figures) == 2
    assert capsys.readouterr().out == ""
    with Image.open(tmp_path / "vis" / "sequence.gif") as image:
        assert image.n_frames == 3
        assert image.width == 400  # what the camera saw; truth and fit


def test_generated_poses_stand_on_one_floor_above_recorded_ones(drawn):
    _, made = drawn
    panels = made.figures[0].axes
    assert len(panels) == 5 * 8
    limits = np.array([(axes.get_xlim(), axes.get_ylim()) for axes in panels])
    np.testing.assert_allclose(limits, limits[:1].repeat(40, axis=0))
    ground = drawing.project(drawing.ground_path(np.zeros(3), 0.5))
    for axes in panels:
        np.testing.assert_allclose(axes.lines[0].get_xydata(), ground)
    # In metres, the generator is affine in latents that are not known here: two numbers explain
    # every generated pose, and they are N(0, 1).
    rest = _projected(_poses(np.zeros(2)))
    basis = np.stack([_projected(_poses(unit)) - rest for unit in np.eye(2)])
    drawn = np.array([_points(axes) - rest for axes in panels[:32]])
    there = np.isfinite(rest)
    found, *_ = np.linalg.lstsq(basis[:, there].T, drawn[:, there].T)
    np.testing.assert_allclose(found.T @ basis[:, there], drawn[:, there], atol=1e-5)
    assert found.mean() == pytest.approx(0, abs=0.4)  # 64 numbers: 3 standard errors
    assert found.std() == pytest.approx(1, abs=0.3)
    # The recorded ones were walking along y, and are over the origin now.
    for axes in panels[32:]:
        np.testing.assert_allclose(_points(axes), _projected(_person() / 1000), atol=1e-5)
    texts = [text.get_text() for text in made.figures[0].texts]
    title = "32 poses of latents drawn from N(0, 1), and 8 of the data"
    assert texts == [title, "generated", "recorded (test)"]


def test_the_same_poses_are_drawn_every_time(draw, drawn):
    first, second = (
        [_points(axes) for axes in made.figures[0].axes] for _, made in (draw(), drawn)
    )
    np.testing.assert_array_equal(first, second)


def test_the_page_has_the_pose_of_every_value_of_every_unit(drawn):
    calls, _ = drawn
    path, (motion,), _, labels, options = calls["latent"]
    assert path.name == "latent.html"
    assert motion.skeleton is H36M_17
    assert list(options["parts"].values()) == [161, 25, 25]
    assert list(options["parts"])[1:] == ["unit 1, others 0", "unit 2, others 0"]
    assert len(motion) == len(labels) == 161 + 2 * 25
    for label, latents in (
        ("1 = -3.00", (-3, 0)),
        ("1 = +0.00", (0, 0)),
        ("1 = +3.00", (3, 0)),
        ("2 = -1.25", (0, -1.25)),
        ("2 = +0.50", (0, 0.5)),
    ):
        pose = motion.poses[labels.index(label)]
        np.testing.assert_allclose(pose, _poses(np.array(latents)), atol=1e-5)


def test_the_walk_goes_from_one_drawn_latent_to_the_next_and_back():
    walk = latent.between_drawn(latents=32, seed=0)
    assert len(walk.latents) == len(walk.labels) == 8 * 20 + 1
    assert walk.labels[:2] + walk.labels[159:] == ["A–B: 0%", "A–B: 5%", "H–A: 95%", "H–A: 100%"]
    np.testing.assert_array_equal(walk.latents[0], walk.latents[-1])
    drawn = walk.latents[:-1:20]
    # 256 numbers of N(0, 1): 4 standard errors.
    assert drawn.mean() == pytest.approx(0, abs=0.25)
    assert drawn.std() == pytest.approx(1, abs=0.18)
    # Lengths are between those of the ends: a straight line would pass at 0.7 of them.
    lengths = np.linalg.norm(walk.latents, axis=1)
    assert lengths.min() > 0.9 * lengths[::20].min()
    steps = np.linalg.norm(np.diff(walk.latents, axis=0), axis=1)
    assert steps.max() < lengths.max() * 0.65 * np.pi / 20  # less than 117 degrees in 20 steps


@pytest.mark.parametrize(
    ("start", "end", "middle"),
    [
        ((1, 0), (0, 1), (np.sqrt(0.5), np.sqrt(0.5))),
        ((3, 0), (0, 1), (3 * np.sqrt(0.5), np.sqrt(0.5))),
        # 60 degrees apart: sin 30 / sin 60 of each.
        ((2, 0), (1, np.sqrt(3)), (np.sqrt(3), 1)),
        # In one line with 0: straight.
        ((1, 0), (3, 0), (2, 0)),
        ((1, 0), (-1, 0), (0, 0)),
    ],
)
def test_interpolation_by_hand(start, end, middle):
    found = latent.interpolated(np.array(start, float), np.array(end, float), np.array([0, 0.5, 1]))
    np.testing.assert_allclose(found, [start, middle, end], atol=1e-7)


def test_errors_are_those_after_alignment(drawn, fitted):
    calls, _ = drawn
    errors, actions, joints, quantity, _ = calls["errors"]
    views = _problem().views("test")
    assert errors.shape == (6 * 3, 17)
    assert actions == 12 * ["Walking"] + 6 * ["Eating"]
    assert list(joints) == list(H36M_17.joints)
    assert quantity == "joint error after Procrustes alignment"
    _, fits = results.read(fitted)
    expected = metrics.frame_errors(
        np.concatenate([fits[view.key].poses for view in views]),
        1000 * np.concatenate([view.poses for view in views]),
        np.repeat(np.arange(6), 3),
        root=0,
    )["p_mpjpe"]
    np.testing.assert_allclose(errors.mean(axis=1), expected, rtol=1e-4)
    # The wrist is what is wrong: scale and place do not count.
    assert (errors.argmax(axis=1) == H36M_17.index("left_wrist")).all()


def test_the_sequence_is_in_the_world(drawn):
    """The typical one is of the recording of the middle error; the fit is where it was put."""
    calls, _ = drawn
    _, (truth, fit, seen), title, labels, options = calls["page"]
    view = _problem().views("test")[3]
    assert (view.name, view.camera_id) == ("Walking 1", "far")
    assert title.startswith("S9 Walking 1, camera far: P-MPJPE ")
    assert labels == ["0", "1", "2"]
    assert options["frame_rate"] == 10
    assert [motion.name for motion in (truth, fit, seen)] == ["ground truth", "fit", "2D keypoints"]
    walk = _person()[np.newaxis] + np.array([0, 200, 0]) * np.arange(3)[:, np.newaxis, np.newaxis]
    np.testing.assert_allclose(truth.poses, walk / 1000, atol=1e-6)
    off = fit.poses - 1.1 * truth.poses
    others = [j for j in range(17) if H36M_17.joints[j] != "left_wrist"]
    np.testing.assert_allclose(off[:, others], np.broadcast_to([0.3, 0, 0], (3, 16, 3)), atol=1e-5)
    distances = 1000 * np.linalg.norm(fit.poses - truth.poses, axis=-1)
    np.testing.assert_allclose(fit.errors, distances, rtol=1e-5)
    assert seen.unit == "px"
    np.testing.assert_array_equal(seen.poses, view.keypoints)


def test_the_gif_is_seen_as_the_camera_sees(drawn):
    """Its camera looks along x, from behind the truth at the fit: what is on its right is right,
    and who walks along y goes to the left."""
    calls, _ = drawn
    _, (seen, (truth, fit)), frame_rate, _ = calls["gif"]
    assert frame_rate == 10
    assert [motion.name for motion in (seen, truth, fit)] == ["2D keypoints", "ground truth", "fit"]
    turned = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    _, (in_world, fit_in_world, _), *_ = calls["page"]
    np.testing.assert_allclose(truth.poses, in_world.poses @ turned, atol=1e-9)
    np.testing.assert_allclose(fit.poses, fit_in_world.poses @ turned, atol=1e-9)
    went = truth.poses[-1, 0] - truth.poses[0, 0]
    np.testing.assert_allclose(went, [-0.4, 0, 0], atol=1e-6)
    assert seen.poses[-1, 0, 0] < seen.poses[0, 0, 0]
    np.testing.assert_array_equal(fit.errors, fit_in_world.errors)


@pytest.mark.parametrize(
    ("example", "title"),
    [("S9 Walking", "S9 Walking, camera near: "), ("S9 Eating far", "S9 Eating, camera far: ")],
)
def test_a_sequence_or_a_view_can_be_chosen(draw, fitted, example, title):
    calls, _ = draw(example)
    assert calls["page"][2].startswith(title)


def test_an_unknown_sequence_is_refused(draw, fitted, tmp_path):
    with pytest.raises(UserError, match=r"^vis.example: got 'S9 Eatin'; did you mean S9 Eating or"):
        draw("S9 Eatin")
    assert list((tmp_path / "vis").iterdir()) == []


def test_a_sequence_without_results_is_refused(draw, tmp_path):
    path = tmp_path / "results.h5"
    message = f"^{path} has not been made; run the same with --command=infer first$"
    with pytest.raises(UserError, match=message):
        draw("S9 Walking")


def test_a_long_sequence_is_cut_and_says_so(draw, fitted, monkeypatch):
    monkeypatch.setattr(pictures, "_VIEWER_FRAMES", 2)
    calls, _ = draw("S9 Walking")
    _, motions, title, labels, _ = calls["page"]
    assert [len(motion) for motion in motions] == [2, 2, 2]
    assert title.endswith(" mm, up to frame 1")
    assert labels == ["0", "1"]


def test_keypoints_that_were_not_seen_are_left_out(draw, fitted, monkeypatch):
    """The page leaves out the joint, the picture all of the panel."""
    problem = _problem()
    views = problem.views("test")
    keypoints = views[0].keypoints.copy()
    keypoints[1, 4] = np.nan
    views[0] = dataclasses.replace(views[0], keypoints=keypoints)
    monkeypatch.setattr(problem, "views", lambda split: views)
    calls, _ = draw("S9 Walking", problem, files=True)
    assert [len(shown) for shown in calls["gif"][1]] == [2]
    assert np.isnan(calls["page"][1][2].poses[1, 4]).all()


def test_fits_of_another_frame_rate_are_refused(draw, fitted):
    message = (
        f"^{fitted}: S9 Walking near: got 3 poses, expected 6; restore the "
        r"hpe.PosePriorProblem.frame_rate that it was fitted with$"
    )
    with pytest.raises(UserError, match=message):
        draw(problem=_problem(frame_rate=20.0))


def test_a_split_without_sequences_is_refused(draw):
    message = "^vis.split: got 'validation', which has no sequences; choose another$"
    with pytest.raises(UserError, match=message):
        draw(problem=_problem(held_out=0), split="validation")


def test_a_broken_generator_is_refused(draw):
    generator = types.SimpleNamespace(predict=lambda inputs, **_: np.full((32, 17, 3), np.nan))
    message = "^generated poses: got NaN or infinity in 1632 of 1632 numbers, expected finite"
    with pytest.raises(UserError, match=message):
        draw(model=types.SimpleNamespace(generator=generator))
