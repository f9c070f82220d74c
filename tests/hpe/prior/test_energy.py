"""The fitting energy, of two joints that are known by hand."""

import re
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from ige.errors import UserError
from ige.geometry import cameras
from ige.geometry.cameras import Camera
from ige.hpe.prior.energy import TERMS, FittingEnergy, Motion, Observation, pack, place, unpack

# World to camera: 4 m in front of the origin and 1 m above the floor, looks along the world's y.
CAMERA = Camera(
    np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
    np.array([0, -4, 1]),
    np.array([1000, 500]),
    np.array([500, 400]),
    np.zeros(3),
    np.zeros(2),
)
LENS = CAMERA._replace(radial=np.array([-0.2, 0.1, 0.05]), tangential=np.array([0.01, -0.02]))
POSE = np.array([[0, 0, 0], [1, 0, 2]])
# Of a pose: three times the height of the second joint, and one.
CRITIC = (np.array([[0, 0, 0, 0, 0, 3]]).T, np.array([1]))


def dense_model(inputs, outputs, weights):
    layer = keras.layers.Dense(len(weights[1]))
    model = keras.Model(inputs, outputs(layer))
    layer.set_weights([np.asarray(w, np.float32) for w in weights])
    return model


def make_model(kernel):
    """A generator of POSE plus what the latents times the kernel (latents, 6) are; a critic."""
    latent, pose = keras.Input((len(kernel),), name="latent"), keras.Input((2, 3))
    generator = dense_model(
        {"latent": latent},
        lambda layer: keras.layers.Reshape((2, 3))(layer(latent)),
        [kernel, POSE.ravel()],
    )
    critic = dense_model(pose, lambda layer: layer(keras.layers.Flatten()(pose)), CRITIC)
    return types.SimpleNamespace(generator=generator, critic=critic)


def make_energy(kernel=None, matrix=None, **weights):
    model = make_model(np.zeros((2, 6)) if kernel is None else kernel)
    weights = weights or dict.fromkeys(TERMS, 1.0)
    return FittingEnergy(model, np.eye(2) if matrix is None else matrix, **weights)


def observe(keypoints, seen=None, exists=None, camera=CAMERA, rate=10.0, size=2.0, free=1.0):
    """What is known of a batch of sequences: keypoints (batch, frames, 2, 2)."""
    batch, frames, joints = np.shape(keypoints)[:3]
    fields = (
        keypoints,
        np.ones((batch, frames, joints)) if seen is None else seen,
        np.ones((batch, frames)) if exists is None else exists,
        Camera(*(np.stack([field] * batch).astype(np.float32) for field in camera)),
        np.full(batch, rate),
        np.full(batch, size),
        np.full(batch, free),
    )
    return Observation(*(f if isinstance(f, Camera) else np.asarray(f, np.float32) for f in fields))


# Two frames: turned by a quarter and moved by 1 m. Poses are 2 m long per unit.
MOTION = Motion(
    np.array([[[3, 4], [0, 1]]]),
    np.array([[0, np.pi / 2]]),
    np.array([[[0, 0], [1, 0]]]),
    np.array([2.0]),
)
PLACED = np.array([[[0, 0, 0], [2, 0, 4]], [[1, 0, 0], [1, 2, 4]]])
PIXELS = np.array([[[500, 525], [1000, 25]], [[750, 525], [500 + 1000 / 6, 150]]])


def test_poses_and_pixels_by_hand():
    energy, seen = make_energy(), observe(PIXELS[np.newaxis])
    poses = energy.poses(tf.constant(pack(MOTION, seen.start_size)), seen)
    np.testing.assert_allclose(poses[0], PLACED, atol=1e-6)
    np.testing.assert_allclose(energy.project(poses, seen.camera)[0], PIXELS, rtol=1e-6)


def test_terms_by_hand():
    """Velocities are (10, 0, 0) and (-10, 20, 0) m/s."""
    keypoints = PIXELS + np.array([[[30, 40], [0, 0]], [[0, 0], [-999, 999]]])
    seen = observe(keypoints[np.newaxis], seen=[[[1, 1], [1, 0]]])
    energy = make_energy(consistency=2, critic=0.5, smoothness=0.25, glide=3, prior=10)
    rows = tf.constant(pack(MOTION, seen.start_size))
    terms = {name: value.numpy().item() for name, value in energy.terms(rows, seen).items()}
    expected = {
        "consistency": (0.03**2 + 0.04**2) / 2,
        "critic": -(7 + 7),
        "smoothness": (100 + 500) / 2,
        "glide": 100,
        "prior": (25 + 1) / 2,
    }
    assert terms == pytest.approx(expected, rel=1e-4)
    total = 2 * 0.00125 - 0.5 * 14 + 0.25 * 300 + 3 * 100 + 10 * 13
    assert energy(rows, seen).numpy().item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("term", TERMS)
def test_terms_without_weight_are_left_out(term):
    seen = observe(PIXELS[np.newaxis] + 100)
    rows = tf.constant(pack(MOTION, seen.start_size))
    energy = make_energy(**(dict.fromkeys(TERMS, 0.0) | {term: 2.0}))
    value = energy.terms(rows, seen)[term]
    np.testing.assert_allclose(energy(rows, seen), 2 * value)
    assert energy.terms(rows, seen, only_weighted=True).keys() == {term}


KERNEL = np.random.default_rng(3).normal(scale=0.3, size=(2, 6))


def random_motion(rng, batch, frames):
    shapes = ((batch, frames, 2), (batch, frames), (batch, frames, 2))
    parts = (rng.normal(scale=0.5, size=shape).astype(np.float32) for shape in shapes)
    return Motion(*parts, rng.uniform(1, 2, batch).astype(np.float32))


def test_keypoints_are_compared_with_projected_joints(rng):
    """As `ige.geometry.cameras` projects them, after a conversion of the joints."""
    matrix = np.array([[0.5, 0.5], [0, 1], [1, 0]])
    keypoints = rng.normal(500, 100, (3, 4, 3, 2))
    seen = observe(keypoints, camera=LENS)
    energy = make_energy(KERNEL, matrix, consistency=1)
    rows = tf.constant(pack(random_motion(rng, 3, 4), seen.start_size))
    world = energy.poses(rows, seen).numpy().astype(np.float64)
    points = np.einsum("kj,bnjd->bnkd", matrix, world)
    pixels = cameras.project(cameras.world_to_camera(points, LENS), LENS).numpy()
    expected = np.square((pixels - keypoints) / 1000).sum(axis=(1, 2, 3)) / 2
    np.testing.assert_allclose(energy(rows, seen), expected, rtol=1e-4)


def test_padding_counts_nothing(rng):
    """A sequence of 3 frames, and one of 2 before a third that is not there."""
    energy = make_energy(KERNEL)
    motion, keypoints = random_motion(rng, 2, 3), rng.normal(500, 100, (2, 3, 2, 2))
    exists = np.array([[1, 1, 1], [1, 1, 0]])
    together = observe(keypoints, np.repeat(exists[..., np.newaxis], 2, axis=-1), exists)
    terms = energy.terms(tf.constant(pack(motion, together.start_size)), together)
    for row, frames in enumerate((3, 2)):
        alone = Motion(*(f[row : row + 1, :frames] for f in motion[:3]), motion.size[[row]])
        seen = observe(keypoints[row : row + 1, :frames])
        expected = energy.terms(tf.constant(pack(alone, seen.start_size)), seen)
        for term in TERMS:
            np.testing.assert_allclose(terms[term][row], expected[term][0], rtol=1e-5)


def test_what_is_not_seen_may_be_anything(rng):
    energy = make_energy(KERNEL)
    keypoints = rng.normal(500, 100, (1, 3, 2, 2))
    visible = np.array([[[1, 0], [1, 1], [0, 0]]])
    found = []
    for hidden in (0, 1e4):
        changed = np.where(visible[..., np.newaxis] > 0, keypoints, hidden)
        seen = observe(changed, visible)
        motion = random_motion(np.random.default_rng(1), 1, 3)
        found.append(energy(tf.constant(pack(motion, seen.start_size)), seen).numpy().item())
    assert found[0] == found[1]


@pytest.mark.parametrize("term", TERMS)
def test_gradients_are_those_of_finite_differences(rng, term):
    energy = make_energy(KERNEL, **(dict.fromkeys(TERMS, 0.0) | {term: 1.0}))
    seen = observe(rng.normal(500, 100, (2, 3, 2, 2)), camera=LENS, rate=2.0)
    rows = tf.constant(pack(random_motion(rng, 2, 3), seen.start_size))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        value = energy(rows, seen)
    gradient = tape.gradient(value, rows)
    if gradient is None:
        gradient = tf.zeros_like(rows)
    step = 1e-2
    numeric = np.stack(
        [
            (energy(rows + step * unit, seen) - energy(rows - step * unit, seen)) / (2 * step)
            for unit in np.eye(rows.shape[1], dtype=np.float32)
        ],
        axis=1,
    )
    scale = np.abs(numeric).max()
    assert scale > 0.1
    np.testing.assert_allclose(gradient, numeric, atol=5e-3 * scale)


def test_rows_are_motions(rng):
    motion = random_motion(rng, 2, 3)
    seen = observe(np.zeros((2, 3, 2, 2)), size=1.65)
    rows = pack(motion, seen.start_size)
    assert rows.shape == (2, 3 * (2 + 3) + 1)
    for got, expected in zip(unpack(tf.constant(rows), 2, seen), motion, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    at_rest = unpack(tf.zeros((2, 16)), 2, seen)
    np.testing.assert_allclose(at_rest.size, [1.65, 1.65])


def test_a_size_that_is_not_free_stays():
    seen = observe(np.zeros((1, 1, 2, 2)), size=1.7, free=0.0)
    rows = tf.ones((1, 6))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        value = make_energy(KERNEL, consistency=1)(rows, seen)
    assert tape.gradient(value, rows)[0, -1] == 0
    np.testing.assert_allclose(unpack(rows, 2, seen).size, [1.7])


def test_heights_above_the_floor_grow_with_the_size(rng):
    motion = random_motion(rng, 1, 2)
    poses = rng.normal(size=(1, 2, 5, 3)).astype(np.float32)
    placed = place(tf.constant(poses), motion)
    np.testing.assert_allclose(placed[..., 2], poses[..., 2] * motion.size, rtol=1e-6)
    between = [np.linalg.norm(np.diff(p, axis=2), axis=-1) for p in (placed.numpy(), poses)]
    np.testing.assert_allclose(between[0], between[1] * motion.size, rtol=1e-5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"prior": -1}, "got weight -1.0 of prior, expected at least 0"),
        ({"glide": np.nan}, "got weight nan of glide, expected at least 0"),
        ({"critic": np.inf}, "got weight inf of critic, expected at least 0"),
        ({"consistency": 0}, "got only weights of 0, expected one above 0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, message):
    with pytest.raises(UserError, match=rf"^{re.escape('hpe.FittingEnergy: ' + message)}(\n|$)"):
        make_energy(**weights)


def test_curvature_is_the_hessian_where_nothing_is_left_over(rng):
    """Gauss and Newton leave out what the distances that are left contribute: here there are none,
    and poses of latents are linear."""
    energy = make_energy(KERNEL, consistency=1.0, prior=0.5)
    motion = random_motion(rng, 2, 3)
    exact = observe(np.zeros((2, 3, 2, 2)), camera=LENS, rate=2.0)
    rows = tf.constant(pack(motion, exact.start_size))
    pixels = energy.project(energy.poses(rows, exact), exact.camera).numpy()
    exact = exact._replace(keypoints=pixels)
    exact.seen[0, 1, 0] = 0
    hessian = hessian_of(energy, rows, exact, "consistency") + hessian_of(
        energy, rows, exact, "prior"
    )
    blocks, others = energy.curvature(rows, exact)
    assert blocks.shape == (2, 3, 5, 5)
    for frame in range(3):
        own = slice(5 * frame, 5 * frame + 5)
        expected = hessian[:, own, own]
        np.testing.assert_allclose(blocks[:, frame], expected, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(others, hessian[:, -1, -1:], rtol=2e-3)


def hessian_of(energy, rows, seen, term):
    """Returns the weighted Hessian (batch, d, d) of a term."""
    with tf.GradientTape() as outer:
        outer.watch(rows)
        with tf.GradientTape() as inner:
            inner.watch(rows)
            value = energy.weights[term] * energy.terms(rows, seen)[term]
        gradient = inner.gradient(value, rows)
    return outer.batch_jacobian(gradient, rows).numpy()


def test_curvature_of_smoothness_is_that_of_a_frame_between_two(rng):
    energy = make_energy(KERNEL, consistency=0.0, smoothness=0.1)
    seen = observe(np.zeros((2, 3, 2, 2)), rate=2.0)
    rows = tf.constant(pack(random_motion(rng, 2, 3), seen.start_size))
    middle = slice(5, 10)
    velocities = energy.curvature(rows, seen).blocks[:, 1]
    # Without the frames beside it, a Hessian has what the distance to them contributes too.
    with tf.GradientTape() as tape:
        tape.watch(rows)
        poses = energy.poses(rows, seen)[:, 1]
    slopes = tape.batch_jacobian(poses, rows).numpy().reshape(2, 6, -1)[..., middle]
    expected = 2 * 0.1 * 2.0**2 * np.einsum("bri,brj->bij", slopes, slopes)
    np.testing.assert_allclose(velocities, expected, rtol=1e-3, atol=1e-5)


def test_padding_has_no_curvature(rng):
    energy = make_energy(KERNEL, consistency=1.0, smoothness=0.1)
    motion, exists = random_motion(rng, 1, 3), np.array([[1, 1, 0]])
    padded = observe(np.zeros((1, 3, 2, 2)), np.repeat(exists[..., np.newaxis], 2, axis=-1), exists)
    found = energy.curvature(tf.constant(pack(motion, padded.start_size)), padded)
    alone = Motion(*(field[:, :2] for field in motion[:3]), motion.size)
    seen = observe(np.zeros((1, 2, 2, 2)))
    expected = energy.curvature(tf.constant(pack(alone, seen.start_size)), seen)
    np.testing.assert_array_equal(found.blocks[:, 2], np.zeros((1, 5, 5)))
    np.testing.assert_allclose(found.blocks[:, :2], expected.blocks, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.others, expected.others, rtol=1e-5)


def test_a_size_that_is_not_free_has_no_curvature(rng):
    energy = make_energy(KERNEL, consistency=1.0)
    seen = observe(np.zeros((1, 2, 2, 2)), free=0.0)
    rows = tf.constant(pack(random_motion(rng, 1, 2), seen.start_size))
    np.testing.assert_array_equal(energy.curvature(rows, seen).others, [[0]])
