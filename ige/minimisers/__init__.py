"""Minimisers: down any energy, many problems at once, each row of a batch by itself."""

from ige.minimisers.adam import Adam
from ige.minimisers.base import Minimiser, Minimum
from ige.minimisers.lbfgs import LBFGS
from ige.minimisers.preconditioned import Curvature, Preconditioned
from ige.minimisers.reference import ScipyLBFGSB

__all__ = [
    "LBFGS",
    "Adam",
    "Curvature",
    "Minimiser",
    "Minimum",
    "Preconditioned",
    "ScipyLBFGSB",
]
