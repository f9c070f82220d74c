import re

import keras
import numpy as np
import pytest

from ige.errors import UserError
from ige.vox.data.shapes import stack
from ige.vox.models.baseline import DECODED, FRUSTUM, get_baseline_inference
from ige.vox.resampling import EMPTY

TINY = {"encoder": "plain", "width": 0.25, "filters": 2, "input_size": 32}


def build(resolution=8, size=32, **options):
    inputs = {
        "image": keras.Input((size, size, 3), dtype="uint8", name="image"),
        "rotation": keras.Input((3, 3), name="rotation"),
        "centre": keras.Input((3,), name="centre"),
        "focal": keras.Input((), name="focal"),
        "planes": keras.Input((2,), name="planes"),
    }
    spec = keras.layers.InputSpec(shape=(resolution,) * 3)
    return keras.Model(inputs, get_baseline_inference(inputs, spec, **(TINY | options)))


@pytest.mark.parametrize(
    ("resolution", "size", "input_size"), [(8, 32, 32), (32, 32, 32), (4, 137, 64), (16, 16, 32)]
)
def test_shapes(resolution, size, input_size):
    model = build(resolution, size, input_size=input_size)
    assert model.output_shape == (None, *(resolution,) * 3)
    assert model.get_layer(FRUSTUM).output.shape == (None, *(resolution,) * 3)
    assert model.get_layer(DECODED).output.shape == (None, resolution, resolution, 2)


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "efficientnet_v2_s"])
def test_encoders_have_all_five_scales(encoder):
    """The decoder's joints would not fit maps of another size."""
    width = {"width": 0.35} if encoder == "mobilenet_v2" else {"width": 1.0}
    model = build(32, 64, encoder=encoder, input_size=64, **width)
    sizes = [model.get_layer(f"decoder_{i}_concat").input[1].shape[1] for i in range(4)]
    assert sizes == [32, 16, 8, 4]
    # What the encoder would do to its input besides; see the next test for what is done.
    scaling = (keras.layers.Rescaling, keras.layers.Normalization)
    assert [layer.name for layer in model.layers if isinstance(layer, scaling)] == ["rescaled"]
    momenta = {layer.momentum for layer in model.layers if hasattr(layer, "momentum")}
    assert momenta == {0.9}


def test_the_encoder_sees_colours_from_minus_one_to_one():
    model = build(size=64)
    seen = keras.Model(model.input["image"], model.get_layer("plain_0_conv").input)
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[:, :, 32:, 1] = 255
    found = seen(image).numpy()
    assert found.shape == (1, 32, 32, 3)
    np.testing.assert_allclose(found[..., [0, 2]], -1)
    np.testing.assert_allclose(found[:, :, :16, 1], -1)
    np.testing.assert_allclose(found[:, :, 16:, 1], 1)


def test_a_pixel_changes_the_columns_about_it():
    """Rows stay rows and columns stay columns, through the joints with the encoder's maps. At the
    coarsest scale one place sees all; its way to the decoder is cut."""
    keras.utils.set_random_seed(0)
    model = build(resolution=32, filters=4)
    coarsest = model.get_layer("decoder_4_conv").kernel
    coarsest.assign(np.zeros(coarsest.shape))
    columns = keras.Model(model.input["image"], model.get_layer(FRUSTUM).output)
    images = np.full((2, 32, 32, 3), 255, np.uint8)
    images[1, 25, 4] = 0
    changed = np.ptp(columns(images), axis=0).max(axis=-1)
    row, column = np.unravel_index(changed.argmax(), changed.shape)
    assert abs(row - 25) <= 2
    assert abs(column - 4) <= 2


def test_the_decoder_widens_towards_coarse_scales_and_has_no_3d_convolution():
    model = build(resolution=32)
    assert [model.get_layer(f"decoder_{i}_conv").filters for i in range(5)] == [2, 4, 8, 16, 16]
    volumes = keras.layers.Conv3D | keras.layers.Conv3DTranspose
    assert not any(isinstance(layer, volumes) for layer in model.layers)


def test_first_guess_has_the_initial_share(toy_shapes):
    model = build(initial_share=0.1)
    layer = model.get_layer(FRUSTUM)
    layer.kernel.assign(np.zeros(layer.kernel.shape))
    arrays = stack(toy_shapes.shapes("test"), views=[0])
    names = ("image", "rotation", "centre", "focal", "planes")
    logits = model({name: arrays[name][:, 0] for name in names})
    # .1 in the middle, less where the camera does not see.
    middle = 1 / (1 + np.exp(-logits[:, 3:5, 3:5, 3:5].numpy()))
    np.testing.assert_allclose(middle, 0.1, rtol=1e-4)
    np.testing.assert_allclose(logits.numpy().min((1, 2, 3)), EMPTY, rtol=1e-5)


def test_weights_come_from_a_file(tmp_path):
    """Of the older layout, by the order of the layers, as keras.applications publishes them."""
    keras.utils.set_random_seed(1)
    image = keras.Input((32, 32, 3))
    other = keras.applications.MobileNetV2(
        input_tensor=image, alpha=0.35, include_top=False, weights=None
    )
    path = tmp_path / "no_top.h5"
    other.save(path)
    options = {"encoder": "mobilenet_v2", "width": 0.35}
    model = build(weights=str(path), **options)
    for name in ("Conv1", "block_16_project"):
        np.testing.assert_array_equal(model.get_layer(name).kernel, other.get_layer(name).kernel)
    with pytest.raises(UserError, match=re.escape(f"{path} does not fit mobilenetv2_0.50_")):
        build(weights=str(path), **(options | {"width": 0.5}))
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match=re.escape(f"{path} is no HDF5 file; give the 'notop' ")):
        build(weights=str(path), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"input_size": 48},
            "vox.get_baseline_inference.input_size: got 48 for grids of 8, expected a multiple of "
            "32 that is 8 times a power of two, up to 256",
        ),
        (
            {"input_size": 512},
            "vox.get_baseline_inference.input_size: got 512 for grids of 8, expected a multiple of "
            "32 that is 8 times a power of two, up to 256",
        ),
        (
            {"resolution": 64},
            "vox.get_baseline_inference.input_size: got 32 for grids of 64, expected a multiple of "
            "32 that is 64 times a power of two, up to 2048",
        ),
        (
            {"filters": 0},
            "vox.get_baseline_inference: got filters=0, width=0.25, initial_share=0.05, expected "
            "filters >= 1, width > 0, 0 < initial_share < 1",
        ),
        (
            {"encoder": "efficientnet_v2_s"},
            "vox.get_baseline_inference.width: got 0.25 for 'efficientnet_v2_s', expected 1.0",
        ),
        (
            {"weights": "x.h5"},
            "vox.get_baseline_inference.weights: got a file for encoder = 'plain', expected None",
        ),
        (
            {"weights": "/nowhere/x.h5", "encoder": "mobilenet_v2"},
            "vox.get_baseline_inference.weights: no file /nowhere/x.h5; put the encoder's weights "
            "there, or set it to None to train from scratch",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        build(**options)
