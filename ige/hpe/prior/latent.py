"""A page to walk through what the latents of a prior mean, without the network."""

import dataclasses
import pathlib
import string
from collections.abc import Callable

import numpy as np

from ige.hpe.motion import Motion
from ige.hpe.skeleton import Skeleton
from ige.hpe.viewer import write_viewer

# Of a unit: from -3 to 3, where 99.7 % of what is drawn from N(0, 1) lies.
_VALUES = np.linspace(-3, 3, 25)
# Of the walk between drawn latents.
_DRAWN, _STEPS = 8, 20
_STEP_RATE = 12.0  # per second, when played


@dataclasses.dataclass(frozen=True)
class Walk:
    """Latents one after another.

    Attributes:
        name: what they are.
        latents: (n, latents).
        labels: of each of the n.
    """

    name: str
    latents: np.ndarray
    labels: list[str]


def along_unit(unit: int, latents: int) -> Walk:
    """Returns the values -3 to 3 of one unit, where the others are 0; units count from 1."""
    walk = np.zeros((len(_VALUES), latents), np.float32)
    walk[:, unit - 1] = _VALUES
    labels = [f"{unit} = {value:+.2f}" for value in _VALUES]
    return Walk(f"unit {unit}, others 0", walk, labels)


def between_drawn(latents: int, seed: int) -> Walk:
    """Returns a round of latents drawn from N(0, 1), which ends where it begins."""
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((_DRAWN, latents))
    names = string.ascii_uppercase[:_DRAWN]
    walk, labels = [], []
    shares = np.arange(_STEPS) / _STEPS
    for start in range(_DRAWN):
        end = (start + 1) % _DRAWN
        walk.append(interpolated(drawn[start], drawn[end], shares))
        labels += [f"{names[start]}–{names[end]}: {share:.0%}" for share in shares]
    labels.append(f"{names[-1]}–{names[0]}: 100%")
    name = f"between {_DRAWN} drawn latents, {names[0]} to {names[-1]} and back"
    return Walk(name, np.concatenate([*walk, drawn[:1]]).astype(np.float32), labels)


def interpolated(start: np.ndarray, end: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Returns latents (n, latents) on the arc from one (latents,) to another, at shares (n,) of it.

    Neither is 0.

    A straight line would lead through lengths that drawn latents do not have. It is taken where
    both lie on a line through 0, and there is no one arc.

    Source: White, "Sampling Generative Networks", 2016, section 2.1.
    """
    cosine = start @ end / (np.linalg.norm(start) * np.linalg.norm(end))
    angle = np.arccos(np.clip(cosine, -1, 1))
    shares = shares[:, np.newaxis]
    if np.sin(angle) < 1e-3:
        weights = (1 - shares, shares)
    else:
        weights = (np.sin(part * angle) / np.sin(angle) for part in (1 - shares, shares))
    return sum(weight * latent for weight, latent in zip(weights, (start, end), strict=True))


def write_page(
    path: pathlib.Path,
    generate: Callable[[np.ndarray], np.ndarray],
    latents: int,
    skeleton: Skeleton,
    seed: int,
) -> None:
    """Writes an HTML file that shows poses along each unit of the latent, and between drawn ones.

    Args:
        path: file to write, whole or not at all.
        generate: (n, latents) -> poses (n, J, 3) in metres, z up.
        latents: units of the latent.
        skeleton: joints of the poses.
        seed: of the drawn latents.

    Raises:
        UserError: the file cannot be written.
    """
    walks = [between_drawn(latents, seed)]
    walks += [along_unit(unit, latents) for unit in range(1, latents + 1)]
    poses = generate(np.concatenate([walk.latents for walk in walks]))
    write_viewer(
        path,
        [Motion("generated", poses, skeleton)],
        "Generated poses by latent",
        [label for walk in walks for label in walk.labels],
        step_name="latent",
        frame_rate=_STEP_RATE,
        parts={walk.name: len(walk.labels) for walk in walks},
    )
