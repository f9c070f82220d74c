"""Energies of batches of examples, and their gradients, example by example."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import tree

from ige.errors import UserError

# A tensor, or a list, tuple or dict of tensors, with the batch as their first axis.
Structure = Any
# (state, conditions) -> (batch,): the energy of each example.
Energy = Callable[[Structure, Structure], tf.Tensor]
# (energy, state, conditions, dtype) -> energies, their gradients, which examples are finite.
Gradients = Callable[..., tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]]
HALF = ("float16", "bfloat16")


def call(energy: Energy, state: Structure, conditions: Structure) -> tf.Tensor:
    """Returns what the energy returns; a functional or sequential model takes one list of all."""
    one_list = isinstance(energy, keras.Sequential) or (
        isinstance(energy, keras.Model) and hasattr(energy, "inputs")
    )
    if not one_list:
        return energy(state, conditions)
    tensors = [*tree.flatten(state), *tree.flatten(conditions)]
    return energy(tensors if len(tensors) > 1 else tensors[0])


def build(
    energy: Energy, state: Structure, conditions: Structure, policy: keras.DTypePolicy, owner: str
) -> None:
    """Makes the weights of an energy that is a layer, and has it compute in full precision.

    Args:
        energy: the energy.
        state: specs of what it will be called with, `keras.KerasTensor`.
        conditions: the same.
        policy: replaces that of layers that compute in half precision.
        owner: who asks, for messages.

    Raises:
        UserError: it does not return (batch,), or nothing that depends on the state.
    """
    if isinstance(energy, keras.layers.Layer):
        call(energy, state, conditions)
        # Not public, but what Keras itself walks a layer with.
        for layer in energy._flatten_layers():
            if layer.compute_dtype in HALF:
                layer.dtype_policy = policy

    def check(state: Structure, conditions: Structure) -> None:
        with tf.GradientTape() as tape:
            tape.watch(tree.flatten(state))
            energies = call(energy, state, conditions)
        shape = getattr(energies, "shape", None)
        if shape is None or len(shape) != 1:
            got = type(energies).__name__ if shape is None else f"shape {tuple(shape)}"
            raise UserError(
                f"{owner}.energy: got {got}, expected energies of shape (batch,), one for each "
                "example; sum over the other axes"
            )
        if all(slope is None for slope in tape.gradient(energies, tree.flatten(state))):
            raise UserError(
                f"{owner}.energy: got energies that do not depend on the state, expected a gradient"
                "; compute them from the first argument, with operations of TensorFlow or Keras"
            )

    tf.function(check, autograph=False).get_concrete_function(
        *tree.map_structure(lambda spec: tf.TensorSpec(spec.shape, spec.dtype), (state, conditions))
    )


def check_registered(energy: Energy, owner: str) -> None:
    """Refuses to save a function that Keras could not find when it loads.

    Raises:
        UserError: it is not registered.
    """
    if isinstance(energy, keras.layers.Layer):
        return
    name = keras.saving.get_registered_name(energy)
    if keras.saving.get_registered_object(name) is not energy:
        raise UserError(
            f"{owner}.energy: got the function {getattr(energy, '__name__', energy)}, which could "
            "not be loaded again, expected a registered one; decorate it with "
            "keras.saving.register_keras_serializable"
        )


def gradients(
    energy: Energy, state: Structure, conditions: Structure, dtype: str
) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
    """Returns the energies, their gradients, and which examples are finite.

    Returns:
        (batch,) energies; the gradients by the state's tensors, in their order and shapes; (batch,)
        whether the energy and the squares of the gradient's elements are finite.
    """
    tensors = tree.flatten(state)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        energies = tf.cast(call(energy, state, conditions), dtype)
        # Every example adds its own: the gradient of the sum is that of each.
        total = tf.reduce_sum(energies)
    slopes = [
        tf.convert_to_tensor(slope)  # that of a gather is sparse
        for slope in tape.gradient(total, tensors, unconnected_gradients="zero")
    ]
    finite = tf.math.is_finite(energies)
    for slope in slopes:
        elements = tf.math.is_finite(tf.square(slope))
        finite &= tf.reduce_all(elements, axis=list(range(1, slope.shape.rank)))
    return energies, slopes, finite


def isolated_gradients(
    energy: Energy, state: Structure, conditions: Structure, dtype: str
) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
    """Returns what `gradients` does, but examples that are not finite have no part in derivatives.

    Setting their gradient to 0 would not do: the derivative of a shared weight would still add
    0 * NaN for them. So the values of an example that is finite take their place. If there is none,
    nothing can, and the derivatives are as without. The energies are the true ones.
    """
    energies, _, finite = gradients(energy, state, conditions, dtype)
    substitute = tf.argmax(tf.cast(finite, tf.int32))

    def finite_only(tensor: tf.Tensor) -> tf.Tensor:
        if not tensor.shape.rank:
            return tensor
        # Not `tensor[substitute]`: for XLA an index in brackets is a constant, and so is all that
        # it comes from; it would compile anew for every batch.
        replacement = tf.gather(tf.stop_gradient(tensor), substitute)
        return tf.where(expanded(finite, tensor), tensor, replacement)

    state, conditions = tree.map_structure(finite_only, (state, conditions))
    substituted, slopes, _ = gradients(energy, state, conditions, dtype)
    return tf.where(finite, substituted, tf.stop_gradient(energies)), slopes, finite


def differentiate_isolated(
    descend: Callable[[Gradients, Structure, Structure], tuple[Structure, tf.Tensor]],
    state: Structure,
    conditions: Structure,
) -> Structure:
    """Returns what `descend` does with `gradients`, with the derivative by `isolated_gradients`.

    That evaluates the energy twice, and makes a difference for examples that are not finite only.
    So the derivative is taken without, and again with it if there was such an example.

    Args:
        descend: (gradients or isolated_gradients, state, conditions) -> tensors, whether all
            examples were finite. Derivatives are by its arguments and by variables that it reads,
            not by tensors that it closes over.
        state: for `descend`.
        conditions: for `descend`.
    """
    structure = (state, conditions)
    tensors = tree.flatten(structure)
    floating = [i for i, tensor in enumerate(tensors) if tensor.dtype.is_floating]

    @tf.custom_gradient
    def run(*sources: tf.Tensor):
        replaced = dict(zip(floating, sources, strict=True))
        inputs = [replaced.get(i, tensor) for i, tensor in enumerate(tensors)]

        def record(gradients: Gradients) -> tuple[tf.GradientTape, list[tf.Tensor], tf.Tensor]:
            with tf.GradientTape(persistent=True) as tape:  # who asks may ask twice
                tape.watch(sources)
                outputs, finite = descend(gradients, *tree.pack_sequence_as(structure, inputs))
            return tape, outputs, finite

        tape, outputs, finite = record(gradients)

        def derivative(*upstream: tf.Tensor, variables: Sequence[tf.Variable] = ()):
            def of(tape: tf.GradientTape, outputs: Structure) -> list[tf.Tensor]:
                slopes = tape.gradient(
                    tree.flatten(outputs),
                    [*sources, *variables],
                    upstream,
                    unconnected_gradients="zero",
                )
                return [tf.convert_to_tensor(slope) for slope in slopes]

            quick = of(tape, outputs)
            slopes = tf.cond(finite, lambda: quick, lambda: of(*record(isolated_gradients)[:2]))
            by_sources, by_variables = slopes[: len(sources)], slopes[len(sources) :]
            return (by_sources, by_variables) if variables else by_sources

        return outputs, derivative

    return run(*(tensors[i] for i in floating))


def expanded(mask: tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
    """Returns a mask of whole examples (batch,) or of elements, with the tensor's axes."""
    for _ in range(tensor.shape.rank - mask.shape.rank):
        mask = tf.expand_dims(mask, -1)
    return mask


def flat(tensor: tf.Tensor) -> tf.Tensor:
    """Returns a tensor (batch, ...) as (batch, elements): XLA's loops over it are long, not nested
    as its axes are, and several times as fast where the last axis is short."""
    return tf.reshape(tensor, (tf.shape(tensor)[0], -1))


def dtype_name(tensor: Any) -> str:
    """Returns the name of a tensor's dtype; of a Python number that which it will get."""
    return tf.as_dtype(getattr(tensor, "dtype", "float32")).name


def _described(tensors: list[Any]) -> str:
    return ", ".join(
        f"{dtype_name(tensor)} {tuple(tensor.shape)}"
        if hasattr(tensor, "shape")
        else type(tensor).__name__
        for tensor in tensors
    )


def check_inputs(owner: str, state: Structure, conditions: Structure, active: Structure) -> None:
    """Refuses what cannot be optimised.

    Before Keras calls the layer, for it wraps what is raised there in lines of its own.

    Raises:
        UserError: the state has no floating-point tensors, a condition has another batch, or a mask
            does not fit.
    """
    tensors = tree.flatten(state)
    for tensor in tensors or [state]:
        rank = len(getattr(tensor, "shape", ()))
        if not rank or not tf.as_dtype(tensor.dtype).is_floating:
            raise UserError(
                f"{owner}: got the state [{_described(tensors)}], expected a tensor of floating-"
                "point numbers (batch, ...), or a list or dict of such tensors"
            )
    batch = tensors[0].shape[0]
    for tensor in tree.flatten(conditions):
        shape = getattr(tensor, "shape", ())
        if len(shape) and None not in (batch, shape[0]) and shape[0] != batch:
            raise UserError(
                f"{owner}: got a condition of shape {tuple(shape)}, expected ({batch}, ...) as the "
                "state has, or a scalar; make what all examples share a part of the energy"
            )
    masks = [] if active is None else tree.flatten(active)
    pairs = zip(masks * len(tensors) if len(masks) == 1 else masks, tensors, strict=False)
    fitting = len(masks) in (1, len(tensors)) and all(_fits(*pair) for pair in pairs)
    if active is not None and not fitting:
        raise UserError(
            f"{owner}.active: got [{_described(masks)}], expected (batch,) or one for each of the "
            f"state's tensors, (batch,) or of the same shape: [{_described(tensors)}]"
        )


def _fits(mask: Any, tensor: tf.Tensor) -> bool:
    shape = tf.TensorShape(getattr(mask, "shape", ()))
    return any(shape.is_compatible_with(of) for of in (tensor.shape[:1], tensor.shape))
