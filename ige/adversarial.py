"""Adversarial training: a generator, a critic, and the losses that set one against the other."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import gin
import keras
import tensorflow as tf

from ige import layers
from ige.errors import UserError
from ige.problem import InferenceFn, Problem

LossName = Literal["wasserstein", "minimax", "modified", "least_squares"]
CriticFn = Callable[[tuple[int, ...]], keras.Model]

# A critic of "minimax" and "modified" is told that real examples are real with this probability:
# one-sided label smoothing (Salimans et al., NeurIPS 2016), as strong as TF-GAN's 0.25.
_REAL_LABEL = 0.875


class _Sides(NamedTuple):
    """What both sides minimise, as means of functions of logits (batch,).

    Attributes:
        real: logits of real examples -> the critic's loss of each.
        fake: logits of generated examples -> the critic's loss of each.
        generator: logits of generated examples -> the generator's loss of each.
    """

    real: Callable[[tf.Tensor], tf.Tensor]
    fake: Callable[[tf.Tensor], tf.Tensor]
    generator: Callable[[tf.Tensor], tf.Tensor]


def _cross_entropy(label: float) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda logits: tf.nn.softplus(logits) - label * logits


_LOSSES = {
    # Arjovsky et al., ICML 2017; the critic has to be Lipschitz: clip its weights, or penalise.
    "wasserstein": _Sides(lambda real: -real, lambda fake: fake, lambda fake: -fake),
    # Goodfellow et al., NeurIPS 2014, equation 1.
    "minimax": _Sides(
        _cross_entropy(_REAL_LABEL), _cross_entropy(0.0), lambda fake: -_cross_entropy(0.0)(fake)
    ),
    # The same with the generator's loss of their section 3, which does not saturate.
    "modified": _Sides(_cross_entropy(_REAL_LABEL), _cross_entropy(0.0), _cross_entropy(1.0)),
    # Mao et al., ICCV 2017, equation 9.
    "least_squares": _Sides(
        lambda real: tf.square(real - 1) / 2,
        lambda fake: tf.square(fake) / 2,
        lambda fake: tf.square(fake - 1) / 2,
    ),
}


@keras.saving.register_keras_serializable(package="ige")
class AdversarialModel(keras.Model):
    """A generator and the critic that it is trained against; called, it generates.

    A training step is one update of the critic, on one batch of real examples and as many
    generated ones; every `critic_steps`-th is followed by one of the generator. Inputs of the
    generator that the data do not have are latents: they are drawn from N(0, 1).

    Args:
        generator: functional model, inputs by name -> examples.
        critic: functional model, examples -> logits (batch, 1), high for real ones.
        loss: name of the losses: 'wasserstein', 'minimax', 'modified', 'least_squares'.
        clip_value: the critic's kernels and biases are clipped to +- this after each update
            (Arjovsky et al.); None leaves them.
        gradient_penalty: weight of the mean of (|gradient| - 1)^2 between real and generated
            examples (Gulrajani et al., NeurIPS 2017, equation 3); 0 for none.
        critic_steps: updates of the critic for one of the generator.
    """

    def __init__(
        self,
        generator: keras.Model,
        critic: keras.Model,
        loss: LossName = "wasserstein",
        clip_value: float | None = None,
        gradient_penalty: float = 0.0,
        critic_steps: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.generator = generator
        self.critic = critic
        self._options = {
            "loss": loss,
            "clip_value": clip_value,
            "gradient_penalty": gradient_penalty,
            "critic_steps": critic_steps,
        }
        self._sides = _LOSSES[loss]
        self.seed_generator = keras.random.SeedGenerator()
        self._trackers = {
            name: keras.metrics.Mean(name=name) for name in ("critic_loss", "generator_loss")
        }
        self.build({tensor.name: tensor.shape for tensor in generator.inputs})

    def call(self, inputs, training=None):
        """Inputs of the generator by name -> examples."""
        return self.generator(inputs, training=training)

    def compile(self, optimizer, *args, **kwargs):
        """The critic's optimiser is another one of the same kind, with the same learning rate."""
        super().compile(optimizer, *args, **kwargs)
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            raise UserError(
                "train.dtype_policy: got 'mixed_float16', expected 'mixed_bfloat16' or None: "
                "nothing scales the losses of a generator and its critic"
            )
        # A number even where the generator's is a schedule, for `train_step` to set.
        number = {"learning_rate": float(tf.convert_to_tensor(optimizer.learning_rate))}
        self.critic_optimizer = type(optimizer).from_config(optimizer.get_config() | number)
        self.critic_optimizer.build(self.critic.trainable_variables)

    def get_compile_config(self):
        """None: what is loaded again is compiled by whoever trains it."""

    def generate(self, count: int | tf.Tensor, inputs: dict[str, Any] | None = None) -> tf.Tensor:
        """Returns `count` examples, of latents drawn anew."""
        return self.generator(self._with_latents(count, inputs or {}))

    def _with_latents(self, count: int | tf.Tensor, inputs: dict[str, Any]) -> dict[str, Any]:
        drawn = {}
        for tensor in self.generator.inputs:
            if tensor.name not in inputs:
                drawn[tensor.name] = tf.random.stateless_normal(
                    (count, *tensor.shape[1:]),
                    tf.cast(self.seed_generator.next(), tf.int32),
                    alg=layers.random_algorithm(),
                )
        return {tensor.name: (inputs | drawn)[tensor.name] for tensor in self.generator.inputs}

    def critic_loss(self, real: tf.Tensor, fakes: tf.Tensor) -> tf.Tensor:
        of_real, of_fakes = (self.critic(poses, training=True) for poses in (real, fakes))
        loss = tf.reduce_mean(self._sides.real(of_real) + self._sides.fake(of_fakes))
        if self._options["gradient_penalty"]:
            loss += self._options["gradient_penalty"] * self._penalty(real, fakes)
        return loss

    def _penalty(self, real: tf.Tensor, fakes: tf.Tensor) -> tf.Tensor:
        places = tf.random.stateless_uniform(
            (tf.shape(real)[0], *[1] * (len(real.shape) - 1)),
            tf.cast(self.seed_generator.next(), tf.int32),
            alg=layers.random_algorithm(),
        )
        between = fakes + places * (real - fakes)
        with tf.GradientTape() as tape:
            tape.watch(between)
            logits = self.critic(between, training=True)
        gradients = tape.gradient(logits, between)
        axes = list(range(1, len(gradients.shape)))
        # The gradient of a square root at zero is infinite.
        norms = tf.sqrt(tf.reduce_sum(tf.square(gradients), axis=axes) + 1e-12)
        return tf.reduce_mean(tf.square(norms - 1))

    def _update_critic(self, real: tf.Tensor, fakes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = self.critic_loss(real, tf.stop_gradient(fakes))
        variables = self.critic.trainable_variables
        self.critic_optimizer.apply(tape.gradient(loss, variables), variables)
        if (limit := self._options["clip_value"]) is not None:
            # The weights alone: the published code clips the optimiser's statistics with them.
            for variable in variables:
                variable.assign(tf.clip_by_value(variable, -limit, limit))
        return loss

    def train_step(self, data):
        """Returns the running means of both losses. data: (inputs, real examples)."""
        inputs, real = data
        variables = self.generator.trainable_variables
        with tf.GradientTape() as tape:
            fakes = self.generator(self._with_latents(tf.shape(real)[0], inputs), training=True)
            with tape.stop_recording():
                self.critic_optimizer.learning_rate = self.optimizer.learning_rate
                critic_loss = self._update_critic(real, fakes)
            loss = tf.reduce_mean(self._sides.generator(self.critic(fakes, training=True)))
        self._trackers["critic_loss"].update_state(critic_loss)
        self._trackers["generator_loss"].update_state(loss)
        self._update_generator(tape.gradient(loss, variables), variables)
        return {name: tracker.result() for name, tracker in self._trackers.items()}

    def _update_generator(self, gradients: list[tf.Tensor], variables: list[Any]) -> None:
        steps = self._options["critic_steps"]
        if steps == 1:
            self.optimizer.apply(gradients, variables)
            return
        due = self.critic_optimizer.iterations % steps == 0
        tf.cond(due, lambda: self.optimizer.apply(gradients, variables), lambda: None)

    def test_step(self, data):
        """Returns the losses, and the metrics of held-out and as many generated examples."""
        inputs, real = data
        fakes = self.generate(tf.shape(real)[0], inputs)
        self._trackers["critic_loss"].update_state(self.critic_loss(real, fakes))
        self._trackers["generator_loss"].update_state(
            tf.reduce_mean(self._sides.generator(self.critic(fakes)))
        )
        self.compute_metrics(inputs, real, fakes)
        return self.get_metrics_result()

    def get_metrics_result(self):
        """The loss of `compile` is not used."""
        return {
            name: value for name, value in super().get_metrics_result().items() if name != "loss"
        }

    def get_config(self):
        networks = {"generator": self.generator, "critic": self.critic}
        serialised = {
            name: keras.saving.serialize_keras_object(network) for name, network in networks.items()
        }
        return super().get_config() | serialised | self._options

    @classmethod
    def from_config(cls, config):
        networks = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("generator", "critic")
        }
        return cls(**(config | networks))


@gin.configurable(module="ige", denylist=["problem", "inference_fn"])
def adversarial_model(
    problem: Problem,
    inference_fn: InferenceFn,
    critic_fn: CriticFn = gin.REQUIRED,
    loss: LossName = "wasserstein",
    clip_value: float | None = None,
    gradient_penalty: float = 0.0,
    critic_steps: int = 1,
) -> AdversarialModel:
    """Returns a model whose generator is the `inference_fn`; a `train.model_fn`.

    Args:
        problem: its labels are the real examples.
        inference_fn: the generator; inputs that the data do not have are latents.
        critic_fn: shape of an example -> critic.
        loss: see `AdversarialModel`, as for the rest.
        clip_value: the same.
        gradient_penalty: the same.
        critic_steps: the same.

    Raises:
        UserError: a value makes no sense, or there are several devices.
    """
    if loss not in get_args(LossName):
        listed = ", ".join(get_args(LossName))
        raise UserError(f"adversarial_model.loss: got {loss!r}, expected one of {listed}")
    if clip_value is not None and not clip_value > 0:
        raise UserError(
            f"adversarial_model.clip_value: got {clip_value}, expected a number above 0, or None"
        )
    if not gradient_penalty >= 0:
        raise UserError(
            f"adversarial_model.gradient_penalty: got {gradient_penalty}, expected at least 0"
        )
    if critic_steps < 1:
        raise UserError(f"adversarial_model.critic_steps: got {critic_steps}, expected at least 1")
    if (replicas := tf.distribute.get_strategy().num_replicas_in_sync) > 1:
        raise UserError(
            f"adversarial_model: got {replicas} devices, expected one: each would draw the latents "
            "of the others; leave strategy.distribution out"
        )
    generator = problem.build_model(inference_fn)
    critic = critic_fn(tuple(problem.output_spec.shape))
    return AdversarialModel(generator, critic, loss, clip_value, gradient_penalty, critic_steps)
