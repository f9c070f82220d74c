"""Measures how voxel grids are stored, made and looked at, on meshes in ShapeNetCore's layout.

    python -m benchmarks.voxels [--folder FOLDER]

Prints, for the meshes in a folder (default: furniture that is generated), by resolution: bytes of a
grid as bits, deflated bits and run lengths of 8 bits, with the time to encode and decode each; the
time to voxelise a mesh and to render 24 views of it; how often parity, the other way to fill a
mesh, disagrees with itself along the three axes; the rays of 24 views by embree and, if it is
installed, by Open3D; and the time that a build takes.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.processes import describe_machine
from ige.vox.data.shapenet_core.layouts import find_layout
from ige.vox.data.shapenet_core.synthetic import SyntheticSpec, write_synthetic
from ige.vox.grids import cell_centres, pack, unpack
from ige.vox.meshes import Mesh, read_obj
from ige.vox.rendering import render
from ige.vox.views import Views, pixel_rays, random_views
from ige.vox.voxels import crossings, intersector, voxelise

RESOLUTIONS = (32, 64, 128, 256)
VIEWS, SIZE = 24, 128
_REPEATS = 5
_MOST = 10
"""Meshes that single steps are measured on."""


def encode_runs(grid: np.ndarray) -> bytes:
    """Returns run lengths in 8 bits, of false and true in turn; 255 and 0 go on with a run."""
    cells = grid.ravel()
    edges = np.flatnonzero(np.diff(cells, prepend=False, append=~cells[-1:]))
    lengths = np.diff(edges, prepend=0)
    parts = (lengths - 1).clip(0) // 255
    counts = np.zeros((2 * parts + 1).sum(), np.uint8)
    ends = np.cumsum(2 * parts + 1) - 1
    starts = ends - 2 * parts
    long = np.repeat(starts, parts) + 2 * (
        np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    )
    counts[long] = 255
    counts[ends] = lengths - 255 * parts
    return counts.tobytes()


def decode_runs(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the grid of `encode_runs`."""
    counts = np.frombuffer(data, np.uint8)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(shape)


CODECS: dict[str, tuple[Callable[[np.ndarray], bytes], Callable[[bytes, Any], np.ndarray]]] = {
    "bits": (
        lambda grid: pack(grid).tobytes(),
        lambda data, shape: unpack(np.frombuffer(data, np.uint8), shape),
    ),
    "deflated bits": (
        lambda grid: zlib.compress(pack(grid).tobytes()),
        lambda data, shape: unpack(np.frombuffer(zlib.decompress(data), np.uint8), shape),
    ),
    "run lengths": (encode_runs, decode_runs),
}


def milliseconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Returns the best time of a few calls."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def parities_differ(mesh: Mesh, resolution: int) -> bool:
    """Whether cells are inside by the crossings along one axis and outside by those of another."""
    rays = intersector(mesh)
    inside = []
    for axis in range(3):
        row, column, at = crossings(rays, resolution, axis)
        line = row * resolution + column
        below = np.zeros((resolution**2, resolution), np.int64)
        np.add.at(
            below, (line, np.searchsorted(cell_centres(resolution), at).clip(0, resolution - 1)), 1
        )
        odd = np.cumsum(below, axis=1) % 2 == 1
        inside.append(np.moveaxis(odd.reshape((resolution,) * 3), -1, axis))
    differ = (inside[0] != inside[1]) | (inside[0] != inside[2])
    # Lines that only touch an edge count once or twice: a few cells prove nothing.
    return differ.sum() > 0.01 * inside[0].sum()


def report_storage(meshes: list[Mesh]) -> None:
    """Prints what grids take on the disk, and how long it takes to write and read them."""
    print("\n| cells | storage | bytes | encode ms | decode ms |\n| --- | --- | --- | --- | --- |")
    for resolution in RESOLUTIONS:
        grids = [voxelise(mesh, resolution) for mesh in meshes]
        for name, (encode, decode) in CODECS.items():
            stored = [encode(grid) for grid in grids]
            for grid, data in zip(grids, stored, strict=True):
                assert (decode(data, grid.shape) == grid).all()
            encoding = np.mean([milliseconds(encode, grid) for grid in grids])
            decoding = np.mean([milliseconds(decode, data, grids[0].shape) for data in stored])
            size = np.mean([len(data) for data in stored])
            print(f"| {resolution} | {name} | {size:,.0f} | {encoding:.2f} | {decoding:.2f} |")


def report_speed(meshes: list[Mesh], views: list[Views]) -> None:
    """Prints how long it takes to voxelise and to render, in one process."""
    print("\n| what | ms per mesh |\n| --- | --- |")
    for resolution in RESOLUTIONS:
        taken = np.mean([milliseconds(voxelise, mesh, resolution) for mesh in meshes])
        print(f"| voxels at {resolution} | {taken:.0f} |")
    seen = zip(meshes, views, strict=True)
    taken = np.mean([milliseconds(render, mesh, view, SIZE) for mesh, view in seen])
    print(f"| {VIEWS} views at {SIZE} x {SIZE} | {taken:.0f} |")
    differing = sum(parities_differ(mesh, 64) for mesh in meshes)
    print(f"\nparity differs between axes in {differing} of {len(meshes)} meshes, at 64")


def first_faces_embree(mesh: Mesh, rays: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the face that every ray (n, 6) meets first, by embree through trimesh."""
    found = intersector(mesh)
    return [found.intersects_first(r[:, :3], r[:, 3:]) for r in rays]


def first_faces_open3d(mesh: Mesh, rays: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the same by Open3D."""
    import open3d  # only to be compared with: 400 MB

    scene = open3d.t.geometry.RaycastingScene()
    vertices = open3d.core.Tensor(mesh.vertices.astype(np.float32))
    scene.add_triangles(vertices, open3d.core.Tensor(mesh.faces.astype(np.uint32)))
    cast = [scene.cast_rays(open3d.core.Tensor(r.astype(np.float32))) for r in rays]
    return [hits["primitive_ids"].numpy().astype(np.int32) for hits in cast]


def report_candidates(meshes: list[Mesh], views: list[Views]) -> None:
    """Prints how long libraries take for the rays of all views; Open3D if it is installed."""
    print(f"\n| rays of {VIEWS} views | ms per mesh | pixels that differ |\n| --- | --- | --- |")
    rays = [
        [
            np.concatenate(
                [np.tile(one.centre, (SIZE**2, 1)), pixel_rays(one, SIZE).reshape(-1, 3)], 1
            )
            for one in (Views(*(field[i] for field in view)) for i in range(VIEWS))
        ]
        for view in views
    ]
    expected = [first_faces_embree(m, r) for m, r in zip(meshes, rays, strict=True)]
    candidates = {"trimesh and embreex": first_faces_embree}
    if importlib.util.find_spec("open3d"):
        candidates["Open3D"] = first_faces_open3d
    for name, function in candidates.items():
        taken, differ = [], []
        for mesh, some, ours in zip(meshes, rays, expected, strict=True):
            taken.append(milliseconds(function, mesh, some))
            differ.append((np.array(function(mesh, some)) >= 0) != (np.array(ours) >= 0))
        print(f"| {name} | {np.mean(taken):.0f} | {np.mean(differ):.6f} |")


_BUILD = """
import json, os, sys, time
from ige.vox.data.shapenet_core import shapenet_core
dataset = shapenet_core(**json.loads(sys.argv[1]))
start, before = time.perf_counter(), os.times()[:4]
dataset.prepare()
print(time.perf_counter() - start, sum(os.times()[:4]) - sum(before))
"""


def report_builds(folder: pathlib.Path, models: int) -> None:
    """Prints how long `prepare` takes, with one process for each core.

    In a process of its own: those that it starts would import what this file imports.
    """
    print(f"\n| build with {VIEWS} views | s per model | s of CPU per model |\n| --- | --- | --- |")
    for resolution in (32, 128):
        with tempfile.TemporaryDirectory(prefix="ige-benchmark-") as data_dir:
            arguments = {
                "manual_dir": str(folder),
                "data_dir": data_dir,
                "resolution": resolution,
                "views": VIEWS,
            }
            command = [sys.executable, "-c", _BUILD, json.dumps(arguments)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, cpu = (float(number) / models for number in done.stdout.split())
        print(f"| {resolution} | {seconds:.3f} | {cpu:.3f} |")


def main() -> None:
    """Reads the meshes, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="with archives of ShapeNetCore and all.csv")
    parser.add_argument("--models", type=int, default=200, help="to generate without a folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ige-benchmark-") as temporary:
        folder = pathlib.Path(arguments.folder or temporary)
        if arguments.folder is None:
            write_synthetic(folder, SyntheticSpec(models=arguments.models))
        layout = find_layout(folder)
        files = [layout.read(record) for record in layout.index(())]
        layout.close()
        sample = files[:: -(-len(files) // _MOST)]
        meshes = [read_obj(file.obj, file.materials) for file in sample]
        faces = np.mean([len(mesh.faces) for mesh in meshes])
        print(f"{len(meshes)} meshes, {faces:,.0f} faces on average; {describe_machine()}")
        report_storage(meshes)
        views = [random_views(file.model, VIEWS) for file in sample]
        report_speed(meshes, views)
        report_candidates(meshes, views)
        report_builds(folder, len(files))


if __name__ == "__main__":
    main()
