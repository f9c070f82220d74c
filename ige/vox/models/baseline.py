"""From an image to the frustum of its camera: a 2D encoder and decoder, depth slices as channels.

A pixel of the image and the column of cells that it sees are at the same place of all feature maps:
so the decoder takes over the encoder's maps at every scale, and there are no 3D convolutions.
"""

import math
import pathlib
from typing import Literal

import gin
import h5py
import keras

from ige.errors import UserError
from ige.problem import Tensors
from ige.vox.resampling import ToObjectFrame
from ige.vox.views import Cameras

_NAME = "vox.get_baseline_inference"
Encoder = Literal["mobilenet_v2", "efficientnet_v2_s", "plain"]
_NUM_SCALES = 5
_STRIDE = 2**_NUM_SCALES
# The layers whose maps are half as large as those before them, from 1/2 to 1/32 of the image.
_SCALES = {
    "mobilenet_v2": (
        "block_1_expand_relu",
        "block_3_expand_relu",
        "block_6_expand_relu",
        "block_13_expand_relu",
        "block_16_project_BN",
    ),
    "efficientnet_v2_s": (
        "block1b_add",
        "block2d_add",
        "block4a_expand_activation",
        "block6a_expand_activation",
        "top_activation",
    ),
    "plain": tuple(f"plain_{i}_relu" for i in range(_NUM_SCALES)),
}
DECODED = "decoded"
"""Name of the layer with the last feature maps, (batch, R, R, filters) in the frustum."""
FRUSTUM = "frustum_logits"
"""Name of the layer with the logits of the frustum, (batch, row, column, depth)."""


@gin.configurable(module="vox", denylist=["inputs", "output_spec"])
def get_baseline_inference(
    inputs: Tensors,
    output_spec: keras.layers.InputSpec,
    encoder: Encoder = "mobilenet_v2",
    width: float = 1.0,
    weights: str | None = None,
    input_size: int = 128,
    filters: int = 32,
    batch_norm_momentum: float = 0.9,
    initial_share: float = 0.05,
) -> keras.KerasTensor:
    """An encoder of keras.applications, a decoder of 2D convolutions to the frustum's resolution,
    and the way from there to the object frame.

    Args:
        inputs: `image` (batch, size, size, 3) uint8 and the camera.
        output_spec: spec of the grid (R, R, R).
        encoder: 'plain' has a convolution for each of its five scales, for quick trials.
        width: factor of the filters of 'mobilenet_v2' (its alpha) and 'plain'.
        weights: file of an encoder's weights without its top, as keras.applications publishes them
            (the 'notop' files); None to train from scratch. Nothing is downloaded.
        input_size: pixels along a side of what the encoder sees, a multiple of 32; images of other
            sizes are resized.
        filters: of the decoder's last feature maps; twice as many at each coarser scale, at most
            eight times.
        batch_norm_momentum: of all batch normalisations; keras.applications has .999, too slow for
            the first thousands of steps.
        initial_share: of the cells that a network takes for solid before it is trained.

    Returns:
        (batch, R, R, R) logits, object frame.

    Raises:
        UserError: sizes that do not fit, or no such file.
    """
    resolution = output_spec.shape[0]
    fitting = (n for n in range(_NUM_SCALES + 1) if input_size * 2**n == _STRIDE * resolution)
    doublings = next(fitting, None)
    if input_size % _STRIDE or doublings is None:
        raise UserError(
            f"{_NAME}.input_size: got {input_size} for grids of {resolution}, expected a multiple "
            f"of {_STRIDE} that is {resolution} times a power of two, up to {_STRIDE * resolution}"
        )
    if filters < 1 or not width > 0 or not 0 < initial_share < 1:
        raise UserError(
            f"{_NAME}: got filters={filters}, width={width}, initial_share={initial_share}, "
            "expected filters >= 1, width > 0, 0 < initial_share < 1"
        )
    image = inputs["image"]
    if image.shape[1] != input_size:
        image = keras.layers.Resizing(input_size, input_size, name="resized")(image)
    image = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescaled")(image)
    maps = _encoded(image, encoder, width, weights, batch_norm_momentum)

    x = maps.pop()
    for scale in reversed(range(doublings)):
        x = keras.layers.UpSampling2D(interpolation="bilinear", name=f"decoder_{scale}_up")(x)
        skip = maps.pop() if maps else image
        x = keras.layers.Concatenate(name=f"decoder_{scale}_concat")([x, skip])
        x = _block(x, filters * 2 ** min(scale, 3), f"decoder_{scale}", batch_norm_momentum)
    x = _block(x, filters, DECODED, batch_norm_momentum)
    start = math.log(initial_share / (1 - initial_share))
    logits = keras.layers.Conv2D(
        resolution,
        1,
        bias_initializer=keras.initializers.Constant(start),
        dtype="float32",
        name=FRUSTUM,
    )(x)
    cameras = (inputs[name] for name in Cameras._fields)
    return ToObjectFrame(resolution, dtype="float32", name="object_logits")(logits, *cameras)


def _block(x: keras.KerasTensor, filters: int, name: str, momentum: float) -> keras.KerasTensor:
    """A convolution, batch normalisation, and ReLU, the layer that has the name."""
    x = keras.layers.Conv2D(
        filters,
        3,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = keras.layers.BatchNormalization(momentum=momentum, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=name)(x)


def _encoded(
    image: keras.KerasTensor, encoder: str, width: float, weights: str | None, momentum: float
) -> list[keras.KerasTensor]:
    """Returns the encoder's maps at 1/2 to 1/32 of the image (-1 to 1)."""
    if encoder == "plain":
        if weights is not None:
            raise UserError(f"{_NAME}.weights: got a file for encoder = 'plain', expected None")
        return _plain(image, width, momentum)
    if encoder == "mobilenet_v2":
        network = keras.applications.MobileNetV2(
            input_tensor=image, alpha=width, include_top=False, weights=None
        )
    else:
        if width != 1:
            raise UserError(f"{_NAME}.width: got {width} for {encoder!r}, expected 1.0")
        network = keras.applications.EfficientNetV2S(
            input_tensor=image, include_top=False, weights=None, include_preprocessing=False
        )
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    if weights is not None:
        _load(network, weights)
    return [network.get_layer(name).output for name in _SCALES[encoder]]


def _plain(image: keras.KerasTensor, width: float, momentum: float) -> list[keras.KerasTensor]:
    maps, x = [], image
    for scale in range(_NUM_SCALES):
        x = keras.layers.Conv2D(
            max(1, round(16 * 2**scale * width)),
            3,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"plain_{scale}_conv",
        )(x)
        x = keras.layers.BatchNormalization(momentum=momentum, name=f"plain_{scale}_norm")(x)
        x = keras.layers.ReLU(name=f"plain_{scale}_relu")(x)
        maps.append(x)
    return maps


def _load(network: keras.Model, weights: str) -> None:
    path = pathlib.Path(weights).expanduser()
    if not path.is_file():
        raise UserError(
            f"{_NAME}.weights: no file {path}; put the encoder's weights there, or set it to None "
            "to train from scratch"
        )
    if not h5py.is_hdf5(path):
        raise UserError(
            f"{_NAME}.weights: {path} is no HDF5 file; give the 'notop' file of keras.applications"
        )
    try:
        network.load_weights(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{_NAME}.weights: {path} does not fit {network.name}: {str(error).splitlines()[0]}; "
            "give the 'notop' file of keras.applications for that encoder and width"
        ) from error
