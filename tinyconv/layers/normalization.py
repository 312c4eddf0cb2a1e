"""Normalization layers."""

from __future__ import annotations

from typing import Any, ClassVar

from tinyconv import initializers
from tinyconv.engine.program import ProgramBuilder
from tinyconv.layers.arguments import get_initializer, refuse_unsupported
from tinyconv.layers.base import Layer, Shape, Weight
from tinyconv.layers.layout import axes_last, axes_of, check_axes
from tinyconv.shapes import describe
from tinyconv.utils import check_flag, check_number

__all__ = ["BatchNormalization"]


class BatchNormalization(Layer):
    """Mean 0 and variance 1 for every channel: y = (x - mean) / sqrt(variance + epsilon) * gamma + beta.

    In training, mean and variance are those of the batch, over all samples and pixels, and each step
    moves `moving_mean` and `moving_variance` towards them: moving * momentum + batch * (1 - momentum),
    the variance divided by the number of values. Otherwise, and while the layer is frozen
    (`trainable=False`), the moving ones are used; they then go into the weights of a convolution
    or dense layer right before this one and cost nothing. Sample weights do not count.
    Ioffe and Szegedy: Batch normalization: accelerating deep network training by reducing internal
    covariate shift (2015).

    Args:
        axis: The channels' axis, with the batch counted: -1, or 3, is the last of an image; 1 is that of
            channels_first. Defaults to -1.
        momentum: How much of the moving statistics a step keeps. Defaults to 0.99.
        epsilon: Added to the variance, greater than 0. Defaults to 0.001.
        center: Whether there is a beta. Defaults to True.
        scale: Whether there is a gamma. Defaults to True.
        beta_initializer: Initializer of beta. Defaults to "zeros".
        gamma_initializer: Initializer of gamma. Defaults to "ones".
        moving_mean_initializer: Initializer of the moving mean. Defaults to "zeros".
        moving_variance_initializer: Initializer of the moving variance. Defaults to "ones".
        beta_regularizer, gamma_regularizer: Penalties in the loss, such as "l2". Default to None.
        beta_constraint, gamma_constraint: What an update is put back to, such as "non_neg". Default to None.
        renorm_clipping: None.
        renorm, synchronized: False.
        renorm_momentum: Without renorm, of no effect.

    Input shape: any. Output shape: the input's. Weights: gamma, beta, moving_mean, moving_variance,
    each (channels,); the last two are not trainable.

    Raises:
        ValueError: If an argument is out of range, or the axis is not one of the input's.
    """

    gamma: Weight
    beta: Weight
    moving_mean: Weight
    moving_variance: Weight

    _fixed_weights: ClassVar[tuple[str, ...]] = ("moving_mean", "moving_variance")

    def __init__(self, axis: int = -1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True,
                 scale: bool = True, beta_initializer: Any = "zeros", gamma_initializer: Any = "ones",
                 moving_mean_initializer: Any = "zeros", moving_variance_initializer: Any = "ones",
                 beta_regularizer: Any = None, gamma_regularizer: Any = None,
                 beta_constraint: Any = None, gamma_constraint: Any = None, renorm: bool = False,
                 renorm_clipping: None = None, renorm_momentum: float = 0.99, synchronized: bool = False,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        axes = check_axes(axis)  # a list of one is how Keras 2 saved it
        if len(axes) != 1:
            raise ValueError(f"Expected axis to be an integer. Received: axis={describe(axis)}")
        self.axis = axes[0]
        self.momentum = check_number(momentum, "momentum")
        self.epsilon = check_number(epsilon, "epsilon", 0.0)
        if self.epsilon == 0:
            raise ValueError(f"Expected epsilon to be greater than 0. Received: epsilon={describe(epsilon)}")
        self.center = check_flag(center, "center")
        self.scale = check_flag(scale, "scale")
        self.beta_initializer = get_initializer(beta_initializer, "bias")
        self.gamma_initializer = get_initializer(gamma_initializer, "gamma")
        self.moving_mean_initializer = get_initializer(moving_mean_initializer, "bias")
        self.moving_variance_initializer = get_initializer(moving_variance_initializer, "moving_variance")
        check_number(renorm_momentum, "renorm_momentum")
        refuse_unsupported(renorm=renorm or None, renorm_clipping=renorm_clipping,
                           synchronized=synchronized or None)
        self.set_rules(beta_regularizer=beta_regularizer, gamma_regularizer=gamma_regularizer,
                       beta_constraint=beta_constraint, gamma_constraint=gamma_constraint)

    def channels_axis(self, shape: Shape) -> int:
        """The channels' axis in a sample."""
        return axes_of(self.axis, shape)[0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.channels_axis(input_shape)
        return input_shape

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        names = ["gamma"] * self.scale + ["beta"] * self.center + ["moving_mean", "moving_variance"]
        return {name: (input_shape[self.channels_axis(input_shape)],) for name in names}

    def lower(self, builder: ProgramBuilder) -> None:
        with axes_last(builder, self.input_shape, (self.channels_axis(self.input_shape),), self.name):
            builder.add("batch_normalization", builder.shape, self.lower_weights(builder), self.name,
                        momentum=self.momentum, epsilon=self.epsilon, scale=self.scale, center=self.center,
                        frozen=not self.trainable)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": initializers.serialize(self.beta_initializer),
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
            "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
        }
