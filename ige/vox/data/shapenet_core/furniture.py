"""Chairs and tables of boxes and cylinders, of any number of distinct shapes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_SIDES = 12
"""Of a cylinder."""


class Part(NamedTuple):
    """A closed convex solid.

    Attributes:
        material: its name.
        vertices: (v, 3) float64, y up.
        faces: (f, 3) int64, counter-clockwise from outside.
    """

    material: str
    vertices: np.ndarray
    faces: np.ndarray


def box(material: str, low: tuple[float, ...], high: tuple[float, ...]) -> Part:
    """Returns a box between two corners (x, y, z)."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = [triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]
    return Part(material, low + corners * (np.array(high) - low), np.array(faces))


def cylinder(
    material: str, bottom: tuple[float, ...], top: tuple[float, ...], radii: tuple[float, float]
) -> Part:
    """Returns a cone cut off at both ends, with horizontal ends.

    Args:
        material: its name.
        bottom: centre (x, y, z) of the lower end.
        top: centre of the upper end.
        radii: of the lower and the upper end.
    """
    angle = np.arange(_SIDES) * 2 * np.pi / _SIDES
    circle = np.stack([np.cos(angle), np.zeros(_SIDES), -np.sin(angle)], axis=-1)
    vertices = np.concatenate([bottom + radii[0] * circle, top + radii[1] * circle, [bottom, top]])
    near = np.arange(_SIDES)
    after = (near + 1) % _SIDES
    low, high = np.full(_SIDES, 2 * _SIDES), np.full(_SIDES, 2 * _SIDES + 1)
    faces = np.concatenate(
        [
            np.stack([near, after, after + _SIDES], axis=-1),
            np.stack([near, after + _SIDES, near + _SIDES], axis=-1),
            np.stack([low, after, near], axis=-1),
            np.stack([high, near + _SIDES, after + _SIDES], axis=-1),
        ]
    )
    return Part(material, vertices, faces)


def chair(rng: np.random.Generator) -> list[Part]:
    """Returns a chair that faces +z: a seat, a back, legs or a column, perhaps arms."""
    width, depth = rng.uniform(0.4, 0.7), rng.uniform(0.4, 0.65)
    height, thick = rng.uniform(0.3, 0.6), rng.uniform(0.03, 0.15)
    back, lean = rng.uniform(0.3, 0.8), rng.uniform(0.03, 0.12)
    x, z = width / 2, depth / 2
    parts = [_top(rng, "seat", x, z, height, thick)]
    if rng.random() < 0.5:
        parts.append(box("back", (-x, height, -z), (x, height + back, -z + lean)))
    else:
        slats = rng.integers(2, 6)
        for at in np.linspace(-x + lean / 2, x - lean / 2, slats):
            parts.append(
                box("back", (at - lean / 2, height, -z), (at + lean / 2, height + back, -z + lean))
            )
        parts.append(box("back", (-x, height + back - 0.1, -z), (x, height + back, -z + lean)))
    parts += _support(rng, x, z, height - thick)
    if rng.random() < 0.4:
        rest, bar = rng.uniform(0.12, 0.28), rng.uniform(0.03, 0.07)
        for side in (-1, 1):
            low, high = sorted((side * x, side * (x - bar)))
            parts.append(box("back", (low, height + rest - bar, -z), (high, height + rest, z)))
            parts.append(box("back", (low, height - thick, z - bar), (high, height + rest, z)))
    return parts


def table(rng: np.random.Generator) -> list[Part]:
    """Returns a table: a top, legs or a column, perhaps a shelf or drawers."""
    width, depth = rng.uniform(0.6, 1.4), rng.uniform(0.4, 0.9)
    height, thick = rng.uniform(0.3, 0.9), rng.uniform(0.03, 0.12)
    x, z = width / 2, depth / 2
    parts = [_top(rng, "seat", x, z, height, thick), *_support(rng, x, z, height - thick)]
    extra = rng.random()
    inner = 0.8
    if extra < 0.3:
        shelf = height * rng.uniform(0.2, 0.6)
        parts.append(
            box("back", (-x * inner, shelf, -z * inner), (x * inner, shelf + 0.04, z * inner))
        )
    elif extra < 0.5:
        bottom = (height - thick) * rng.uniform(0.1, 0.6)
        edge = x * rng.uniform(0.2, 0.6)
        parts.append(
            box("back", (edge, bottom, -z * inner), (x * inner + 0.1, height - thick, z * inner))
        )
    return parts


def _top(
    rng: np.random.Generator, material: str, x: float, z: float, height: float, thick: float
) -> Part:
    """Returns a seat or a table's top, mostly a box."""
    if rng.random() < 0.75:
        return box(material, (-x, height - thick, -z), (x, height, z))
    round_top = cylinder(material, (0, height - thick, 0), (0, height, 0), (1.0, 1.0))
    return round_top._replace(vertices=round_top.vertices * (x, 1, z))


def _support(rng: np.random.Generator, x: float, z: float, height: float) -> list[Part]:
    """Returns what stands on the floor, up to `height`."""
    kind = rng.random()
    radius = rng.uniform(0.025, 0.06)
    if kind < 0.25:
        foot = min(x, z) * rng.uniform(0.5, 0.9)
        return [
            cylinder("legs", (0, 0, 0), (0, height, 0), (1.5 * radius, 1.5 * radius)),
            cylinder("legs", (0, 0, 0), (0, 0.05, 0), (foot, foot * rng.uniform(0.6, 1.0))),
        ]
    spread, taper = rng.uniform(0.0, 0.1), rng.uniform(0.5, 1.0)
    up = np.array([0.0, height, 0.0])
    legs = []
    for side in (-1, 1):
        if kind < 0.4:
            legs.append(
                box(
                    "legs",
                    (side * (x - radius) - radius, 0, -z),
                    (side * (x - radius) + radius, height, z),
                )
            )
            continue
        for front in (-1, 1):
            at = np.array([side * (x - 1.2 * radius), 0.0, front * (z - 1.2 * radius)])
            if kind < 0.7:
                reach = np.array([radius, 0, radius])
                legs.append(box("legs", tuple(at - reach), tuple(at + reach + up)))
            else:
                out = np.array([side * spread, 0.0, front * spread])
                legs.append(
                    cylinder(
                        "legs",
                        tuple(at + out),
                        tuple(at + up),
                        (radius * taper, radius),
                    )
                )
    return legs


KINDS: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "03001627": chair,
    "04379243": table,
}
"""Synset -> what makes one of its models."""


def normalised(parts: list[Part]) -> list[Part]:
    """Returns the parts in ShapeNetCore's frame: about the origin, with a diagonal of 1."""
    everything = np.concatenate([part.vertices for part in parts])
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = np.linalg.norm(high - low)
    return [p._replace(vertices=(p.vertices - (low + high) / 2) / scale) for p in parts]
