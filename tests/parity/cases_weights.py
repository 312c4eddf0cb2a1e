"""What starts, penalizes and bounds weights: a line is a call."""

from __future__ import annotations

from parity.harness import New

INITIALIZERS: list[New] = [
    New("initializers.Zeros"), New("initializers.Ones"),
    New("initializers.Constant"), New("initializers.Constant", 0.3),
    New("initializers.RandomNormal"), New("initializers.RandomNormal", mean=1.0, stddev=2.0),
    New("initializers.TruncatedNormal"), New("initializers.TruncatedNormal", 1.0, 2.0),
    New("initializers.RandomUniform"), New("initializers.RandomUniform", minval=0.0, maxval=3.0),
    *[New(f"initializers.{family}{kind}") for family in ("Glorot", "He", "Lecun") for kind in ("Normal", "Uniform")],
    New("initializers.VarianceScaling"),
    New("initializers.VarianceScaling", 2.0, "fan_out", "uniform"),
    New("initializers.VarianceScaling", scale=0.5, mode="fan_avg", distribution="untruncated_normal"),
    New("initializers.Orthogonal"), New("initializers.Orthogonal", gain=2.0),
    New("initializers.VarianceScaling", 3.0, "fan_in", "truncated_normal"),
    *[New("initializers.VarianceScaling", mode=mode, distribution=kind) for mode in ("fan_in", "fan_out", "fan_avg")
      for kind in ("uniform", "untruncated_normal")],
    New("initializers.Identity"), New("initializers.Identity", 2.0),
]
REGULARIZERS: list[New] = [
    New("regularizers.L1"), New("regularizers.L1", 0.2),
    New("regularizers.L2"), New("regularizers.L2", l2=0.2),
    New("regularizers.L1L2"), New("regularizers.L1L2", 0.1, 0.2), New("regularizers.L1L2", l2=0.3),
    New("regularizers.OrthogonalRegularizer"), New("regularizers.OrthogonalRegularizer", 0.2, mode="columns"),
]
CONSTRAINTS: list[New] = [
    New("constraints.MaxNorm"), New("constraints.MaxNorm", 0.5, axis=[0, 1, 2]),
    New("constraints.MinMaxNorm"), New("constraints.MinMaxNorm", 0.8, 1.2, rate=0.5, axis=1),
    New("constraints.MaxNorm", max_value=1.0, axis=1), New("constraints.MinMaxNorm", 0.2, 0.5),
    New("constraints.NonNeg"),
    New("constraints.UnitNorm"), New("constraints.UnitNorm", axis=[0, 1, 2]),
]
