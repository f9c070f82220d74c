import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from ige.errors import UserError
from ige.unroll import UnrolledSGD
from ige.vox.energies import ConsistencyEnergy, RealismEnergy, VoxelEnergy, visible
from ige.vox.frustum import frustum_points
from ige.vox.grids import cell_of
from ige.vox.resampling import EMPTY
from ige.vox.views import Views, from_grid, random_views

SMALL = {"hidden_units": 4, "num_outputs": 2, "num_scales": 2}


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def test_a_ray_meets_something_unless_all_its_cells_are_empty():
    probabilities = np.array([[[[0.5, 0.5, 0.2], [0.1, 0.1, 0.1]]]])
    logits = np.log(probabilities / (1 - probabilities))
    np.testing.assert_allclose(visible(tf.constant(logits)), [[[0.8, 1 - 0.9**3]]])


def test_an_empty_ray_still_has_a_slope():
    """Probabilities of 1e-9 would be lost in 1 - (1 - p); softplus keeps them."""
    logits = tf.fill((1, 1, 1, 1), -20.7)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        seen = visible(logits)
    np.testing.assert_allclose(seen, np.exp(-20.7), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(seen, logits), np.exp(-20.7), rtol=1e-5)


def far_camera(count, dtype="float32"):
    """Returns cameras before +x so far away, with so long a lens, that their frustum is the grid:
    rows are -y, columns -z, depths -x."""
    rotation = np.array([[0, 0, -1], [0, -1, 0], [-1, 0, 0]])
    distance = 1e6 if dtype == "float64" else 1e3
    planes = [distance - 0.5, distance + 0.5]
    camera = {
        "rotation": rotation,
        "centre": [distance, 0, 0],
        "focal": distance,
        "planes": planes,
    }
    return {name: tf.constant([value] * count, dtype) for name, value in camera.items()}


def as_seen(grids):
    """Returns grids (batch, x, y, z) as (batch, row, column, depth) of `far_camera`."""
    return np.flip(grids, axis=(1, 2, 3)).transpose(0, 2, 3, 1)


SIDE = 0.5
MIDDLE = np.array([0.1, -0.2, 0.15])
VIEWS = random_views("somebody", 3)


def near_cameras(count):
    """Returns `VIEWS` of grids off the middle of the frustums, and half as long."""
    cameras = from_grid(VIEWS, MIDDLE, SIDE)._asdict()
    return {name: tf.constant(field[:count]) for name, field in cameras.items()}


def as_seen_nearby(grids):
    """Returns grids (batch, x, y, z) as (batch, row, column, depth) of `near_cameras`."""
    seen = []
    for grid, *view in zip(grids, *VIEWS, strict=True):
        points = (frustum_points(Views(*view), len(grid)) - MIDDLE) / SIDE
        cells = cell_of(points, len(grid)).clip(-1, len(grid)) + 1
        padded = np.pad(grid, 1, constant_values=EMPTY)
        seen.append(padded[tuple(np.moveaxis(cells, -1, 0))])
    return np.stack(seen)


def condition(rng, term, size=4, dtype="float32"):
    """Returns what `term` observes in random features and a silhouette of the left half, and
    `far_camera`."""
    silhouette = np.zeros((2, size, size, 1), np.float32)
    silhouette[:, :, : size // 2] = 1
    inputs = keras.Input((size, size, 3)), keras.Input((size, size, 1))
    model = keras.Model(inputs, term.observe(*inputs))
    features = tf.constant(rng.normal(size=(2, size, size, 3)), tf.float32)
    return model([features, tf.constant(silhouette)]) | far_camera(2, dtype)


def test_the_silhouette_alone_is_followed_downhill(rng):
    """With kernels of 0 what remains is the cross-entropy: rays into it fill, others empty."""
    term = ConsistencyEnergy(silhouette_weight=1.0, **SMALL)
    energy = VoxelEnergy(consistency=term)
    conditions = condition(rng, term)
    logits = tf.zeros((2, 4, 4, 4))
    energy(logits, conditions)
    for layer in term.rays.outputs:
        layer.kernel.assign(tf.zeros_like(layer.kernel))
    rays, empty = 16, 4 * np.log(2)
    expected = rays / 2 * (empty - np.log(1 - 2.0**-4 + 1e-4))
    np.testing.assert_allclose(energy(logits, conditions), [expected] * 2, rtol=1e-5)
    iterates = UnrolledSGD(energy, num_steps=60, learning_rate=0.3)(logits, conditions).numpy()
    seen = visible(tf.constant(as_seen(iterates[:, -1]))).numpy()
    assert seen[:, :, :2].min() > 0.95
    assert seen[:, :, 2:].max() < 0.3


def softabs_of_softplus(x):
    return np.sqrt(np.log1p(np.exp(x)) ** 2 + 1) - 1


def only_middles(pyramid, *of_channels):
    """Makes the kernels of the first scale add up their own cell's channels, weighted, and those of
    the second 0: its softplus is that of its biases."""
    first, second = pyramid.hidden
    kernel = np.zeros(first.kernel.shape, np.float32)
    kernel[1, 1] = np.reshape(of_channels, (-1, 1))
    first.kernel.assign(kernel)
    second.kernel.assign(np.zeros(second.kernel.shape))
    for layer in pyramid.outputs:
        layer.kernel.assign(np.ones(layer.kernel.shape))


# Of four places at the second scale.
AT_THE_SECOND = 4 * softabs_of_softplus(0.0)


def test_realism_by_hand(rng):
    """Of slices across x, and of slices across z."""
    term = RealismEnergy(hidden_units=1, num_outputs=1, num_scales=2, temperature=2.0)
    logits = rng.normal(size=(3, 4, 4, 4)).astype(np.float32)
    energy = VoxelEnergy(realism=term)
    energy(logits, {})
    only_middles(term.side, 1, -3, 0, 0)
    only_middles(term.front, 0, 0, 2, 0.5)
    cells = 1 / (1 + np.exp(-logits / 2))
    side = softabs_of_softplus(cells[:, 0] - 3 * cells[:, 1])
    front = softabs_of_softplus(2 * cells[..., 2] + 0.5 * cells[..., 3])
    expected = (side + front).sum((1, 2)) + 2 * AT_THE_SECOND
    np.testing.assert_allclose(energy(logits, {}), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("cameras", "seen"), [(far_camera, as_seen), (near_cameras, as_seen_nearby)]
)
def test_consistency_by_hand(rng, cameras, seen):
    """Of cells, their projection without the temperature, what is observed, and the silhouette."""
    options = {"hidden_units": 1, "num_outputs": 1, "num_scales": 2, "temperature": 2.0}
    term = ConsistencyEnergy(silhouette_weight=0.3, **options)
    logits = rng.normal(size=(3, 4, 4, 4)).astype(np.float32)
    observed = rng.normal(size=(3, 4, 4, 1)).astype(np.float32)
    silhouette = rng.random((3, 4, 4, 1)).astype(np.float32)
    conditions = {"observed": [observed, np.zeros((3, 2, 2, 1))], "silhouette": silhouette}
    conditions |= cameras(3)
    energy = VoxelEnergy(consistency=term)
    energy(logits, conditions)
    only_middles(term.rays, 1, -3, 0.5, 0, 2)
    in_frustum = seen(logits)
    cells = 1 / (1 + np.exp(-in_frustum / 2))
    empty = np.prod(1 / (1 + np.exp(in_frustum)), axis=-1)
    units = cells @ [1, -3, 0.5, 0] + 2 * (1 - empty) + observed[..., 0]
    target = silhouette[..., 0]
    entropy = -(1 - target) * np.log(empty) - target * np.log(1 - empty + 1e-4)
    each = softabs_of_softplus(units) + 0.3 * entropy
    expected = each.sum((1, 2)) + AT_THE_SECOND
    np.testing.assert_allclose(energy(logits, conditions), expected, rtol=1e-5)


def test_the_image_is_observed_with_its_silhouette(rng):
    """The features and the silhouette of a place reach the units of that place, of all scales."""
    inputs = keras.Input((8, 8, 3)), keras.Input((8, 8, 1))
    model = keras.Model(inputs, ConsistencyEnergy(**SMALL).observe(*inputs))
    images = np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 8, 8, 1), np.float32)
    before = model(images)["observed"]
    assert [tuple(maps.shape) for maps in before] == [(1, 8, 8, 4), (1, 4, 4, 4)]
    for image in images:
        image[0, 6, 1] = 5
        for size, maps, was in zip((8, 4), model(images)["observed"], before, strict=True):
            changed = np.abs(maps - was).max(axis=(0, 3)) > 0
            assert changed[6 * size // 8, size // 8]
            assert not changed[: size // 2, size // 2 :].any()
        image[0, 6, 1] = 0


def test_scales_observe_with_an_activation_between_them(rng):
    """And with none after the last: the units have their own."""
    inputs = keras.Input((8, 8, 3)), keras.Input((8, 8, 1))
    model = keras.Model(inputs, ConsistencyEnergy(**SMALL).observe(*inputs))
    features = rng.normal(size=(1, 8, 8, 3)).astype(np.float32)
    silhouette = np.zeros((1, 8, 8, 1), np.float32)
    (first, second), (minus_first, minus_second) = (
        model([sign * features, silhouette])["observed"] for sign in (1, -1)
    )
    np.testing.assert_allclose(minus_first, -first, atol=1e-5)
    assert np.abs(minus_second + second).max() > 0.1
    assert min(np.min(second), np.min(minus_second)) < -0.1


@pytest.mark.parametrize("kind", [RealismEnergy, ConsistencyEnergy])
def test_terms_are_made_again_of_their_config(kind):
    options = {
        "hidden_units": 3,
        "num_outputs": 4,
        "num_scales": 2,
        "stride": 2,
        "temperature": 5.0,
        "init_scale": 1e-8,
    }
    options |= {"silhouette_weight": 0.7} if kind is ConsistencyEnergy else {}
    again = kind.from_config(kind(**options).get_config())
    assert again.get_config().items() >= options.items()
    again.build((None, 8, 8, 8))
    # Windows overlap by a cell on either side. The frustum has a half of the cells to a side.
    realism = kind is RealismEnergy
    first = (4, 4, 8, 3) if realism else (3, 3, 4 + 1, 3)
    for pyramid in [again.side, again.front] if realism else [again.rays]:
        assert [layer.kernel.shape for layer in pyramid.hidden] == [first, (4, 4, 3, 3)]
        assert [layer.strides for layer in pyramid.hidden] == [(1 + realism,) * 2, (2, 2)]
        assert [np.abs(layer.kernel).max() < 1e-3 for layer in pyramid.outputs] == [True, True]


def test_scales_start_from_values_of_their_own():
    energy = RealismEnergy(**SMALL)
    energy(tf.zeros((1, 8, 8, 8)))
    kernels = [
        outputs.kernel.numpy()
        for pyramid in (energy.side, energy.front)
        for outputs in pyramid.outputs
    ]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels) == 4


def test_the_stride_keeps_cost_in_bounds():
    """At four times the resolution with four times the stride, 16 times the multiplications."""

    def multiplications(size):
        term = RealismEnergy(stride=size // 32, **SMALL)
        term.build((None, size, size, size))
        first = term.side.hidden[0]
        _, rows, columns, _ = first.compute_output_shape((1, size, size, size))
        return rows * columns * np.prod(first.kernel.shape)

    assert multiplications(32) == 32 * 32 * 3 * 3 * 32 * 4
    assert multiplications(128) == 16 * multiplications(32)


@pytest.mark.parametrize("stride", [1, 2])
def test_energies_have_finite_second_derivatives(rng, stride):
    """And first ones as finite differences have them, where logits are large too."""
    terms = (
        RealismEnergy(stride=stride, dtype="float64", **SMALL),
        ConsistencyEnergy(stride=stride, dtype="float64", **SMALL),
    )
    energy = VoxelEnergy(*terms, dtype="float64")
    conditions = condition(rng, terms[1], dtype="float64")
    logits = tf.constant(rng.normal(size=(2, 4, 4, 4)) * 4)
    energy(logits, conditions)
    of_logits = tf.function(lambda logits: energy(logits, conditions), autograph=False)
    theory, numeric = tf.test.compute_gradient(of_logits, [logits])
    np.testing.assert_allclose(theory[0], numeric[0], atol=2e-5)
    with tf.GradientTape() as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            total = energy(100 * logits, conditions)
        slope = tf.reduce_sum(tf.square(inner.gradient(total, logits)))
    for gradient in outer.gradient(slope, [logits, *energy.trainable_variables]):
        assert np.isfinite(gradient).all()


def test_examples_are_separate(rng):
    terms = RealismEnergy(**SMALL), ConsistencyEnergy(**SMALL)
    energy = VoxelEnergy(*terms)
    conditions = condition(rng, terms[1])
    logits = tf.constant(rng.normal(size=(2, 4, 4, 4)), tf.float32)
    both = energy(logits, conditions)
    second = tf.nest.map_structure(lambda tensor: tensor[1:], conditions)
    np.testing.assert_allclose(energy(logits[1:], second), both[1:], rtol=1e-5)


@pytest.mark.parametrize("kind", [RealismEnergy, ConsistencyEnergy])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"stride": 0}, "stride: got 0, expected a whole number from 1 on"),
        ({"num_scales": 1.5}, "num_scales: got 1.5, expected a whole number from 1 on"),
        ({"temperature": 0}, "temperature: got 0, expected a number above 0"),
    ],
)
def test_numbers_that_make_no_sense(kind, option, message):
    with pytest.raises(UserError, match=rf"^vox\.{kind.__name__}\.{re.escape(message)}$"):
        kind(**option)


def test_a_coarser_frustum_has_the_most_likely_cells(rng):
    """And the silhouette's mean."""
    term = ConsistencyEnergy(stride=2, **SMALL)
    conditions = condition(rng, term, 8)
    inputs = keras.Input((8, 8, 3)), keras.Input((8, 8, 1))
    shares = rng.random((1, 8, 8, 1)).astype(np.float32)
    seen = keras.Model(inputs, term.observe(*inputs))([np.zeros((1, 8, 8, 3), np.float32), shares])
    means = shares.reshape(1, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(seen["silhouette"], means, rtol=1e-5)
    logits = rng.normal(size=(2, 8, 8, 8)).astype(np.float32)
    energy = VoxelEnergy(consistency=term)
    expected = energy(logits, conditions)
    coarse = logits.reshape(2, 4, 2, 4, 2, 4, 2).max(axis=(2, 4, 6))
    found = energy(coarse.repeat(2, axis=1).repeat(2, axis=2).repeat(2, axis=3), conditions)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_stride_divides_the_grid():
    message = "vox.ConsistencyEnergy.stride: got 3 for grids of 8, expected a divisor of it"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        ConsistencyEnergy(stride=3).build((None, 8, 8, 8))


def test_weight_of_the_silhouette_is_above_zero():
    message = r"^vox\.ConsistencyEnergy\.silhouette_weight: got 0, expected a number above 0$"
    with pytest.raises(UserError, match=message):
        ConsistencyEnergy(silhouette_weight=0)
