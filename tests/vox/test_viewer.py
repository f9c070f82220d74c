"""The page of voxel grids: what is in the file, and what a browser makes of it."""

import base64
import dataclasses
import io
import json
import pathlib
import re
import zlib
from collections.abc import Iterator

import numpy as np
import pages
import pytest
from PIL import Image
from playwright.sync_api import Page

from ige.vox.grids import cell_centres
from ige.vox.rendering import render
from ige.vox.surfaces import PREDICTION, TRUTH, cells_mesh, sides
from ige.vox.viewer import Scene, write_viewer
from ige.vox.views import FOV, Views, look_at_origin

SIZE = 32
STEPS = ["first guess", "step 1: result"]


def _box(*ends: tuple[float, float]) -> np.ndarray:
    """Returns a solid box (R, R, R) from -> to along x, y and z."""
    centres = cell_centres(SIZE)
    along = [(centres > low) & (centres < high) for low, high in ends]
    return along[0][:, np.newaxis, np.newaxis] & along[1][:, np.newaxis] & along[2]


def _view(azimuth: float) -> Views:
    views = look_at_origin(*(np.array([value]) for value in (azimuth, 28.0, 1.166)), FOV)
    return Views(*(field[0] for field in views))


def _scenes() -> list[Scene]:
    """Two steps, a seat without and with its back; of the second example nobody knows the truth."""
    seat = _box((-0.3, 0.3), (-0.25, -0.1), (-0.25, 0.25))
    back = _box((-0.3, -0.2), (-0.1, 0.4), (-0.25, 0.25))
    steps = np.stack([seat, seat | back])
    image = np.full((40, 40, 3), 200, np.uint8)
    return [
        Scene("chair <1>", image, _view(-70.0), steps, seat | back),
        Scene("chair 2", image, _view(30.0), steps[::-1]),
    ]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("viewer") / "viewer.html"
    write_viewer(path, _scenes(), "Chairs <here> & there", 0.4, STEPS)
    return path


def _data(path: pathlib.Path) -> dict:
    text = path.read_text("utf-8")
    return json.loads(re.search(r'type="application/json">(.*?)</script>', text, re.DOTALL)[1])


def _unpack(text: str) -> np.ndarray:
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(4, -1)
    return np.cumsum(np.ascontiguousarray(planes.T).view("<u4").ravel(), dtype=np.uint32)


def test_every_side_is_in_the_file(path):
    data = _data(path)
    assert (data["size"], data["steps"]) == (SIZE, STEPS)
    for scene, found in zip(_scenes(), data["scenes"], strict=True):
        for grid, text in zip(scene.predicted, found["predicted"], strict=True):
            codes, seen = _unpack(text), sides(grid)
            cells = np.ravel_multi_index(tuple(seen.cell.T), grid.shape)
            np.testing.assert_array_equal(codes >> 8, cells)
            np.testing.assert_array_equal(codes >> 4 & 7, seen.direction)
            np.testing.assert_allclose((codes & 15) / 15, seen.light, atol=0.5 / 15 + 1e-6)


def test_what_one_lacks_is_marked_in_the_other(path):
    scene, found = _scenes()[0], _data(path)["scenes"][0]
    back = np.flatnonzero(scene.predicted[1] & ~scene.predicted[0])
    codes = _unpack(found["truth"][0])
    np.testing.assert_array_equal(codes >> 7 & 1, np.isin(codes >> 8, back))
    assert (codes >> 7 & 1).any()
    for text in (found["truth"][1], *found["predicted"]):
        assert not (_unpack(text) >> 7 & 1).any()


def test_iou_and_camera(path):
    first, second = _data(path)["scenes"]
    # The seat has 20 x 5 x 16 cells, the back 4 x 16 x 16.
    assert first["ious"] == [pytest.approx(1600 / (1600 + 1024)), 1]
    assert "truth" not in second
    assert "ious" not in second
    camera = second["camera"]
    angles = np.degrees([camera["azimuth"], camera["elevation"]])
    np.testing.assert_allclose(angles, [30, 28])
    assert camera["distance"] == pytest.approx(1.166)
    assert camera["focal"] == pytest.approx(35 / 32)


def test_the_camera_of_a_grid_beside_the_middle(tmp_path):
    """It looks the same way as before, and is as far away as it is from the middle of the grid."""
    scene = _scenes()[1]
    moved = scene.view._replace(centre=scene.view.centre + np.array([0.2, -0.1, 0.3]))
    path = tmp_path / "viewer.html"
    write_viewer(path, [dataclasses.replace(scene, view=moved)], "", 0.4, STEPS)
    camera = _data(path)["scenes"][0]["camera"]
    angles = np.degrees([camera["azimuth"], camera["elevation"]])
    np.testing.assert_allclose(angles, [30, 28])
    assert camera["distance"] == pytest.approx(np.linalg.norm(moved.centre))


def test_a_fine_grid_is_a_small_file(tmp_path):
    """A ball of 128: 2 million cells, some 37,000 sides."""
    centres = cell_centres(128)
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(centres, centres, centres)))
    grids = np.stack([radius < 0.35, radius < 0.4])
    scene = Scene("ball", np.zeros((8, 8, 3), np.uint8), _view(0.0), grids, grids[1])
    write_viewer(tmp_path / "ball.html", [scene], "", 0.5, STEPS)
    assert (tmp_path / "ball.html").stat().st_size < 200_000


def test_text_is_escaped_and_nothing_is_loaded(tmp_path):
    evil = "</script><script src='https://example.org'>$title ${x} {id}"
    scene = Scene(evil, np.zeros((8, 8, 3), np.uint8), _view(0.0), np.ones((1, 4, 4, 4), bool))
    write_viewer(tmp_path / "evil.html", [scene], evil, 0.5, [evil])
    found = pages.elements(tmp_path / "evil.html")
    assert [tag for tag, _ in found].count("script") == 2
    assert not [tag for tag, attributes in found if {"src", "href"} & set(attributes)]
    assert ("meta", {"charset": "utf-8"}) in found


@pytest.fixture
def opened(browser, path) -> Iterator[Page]:
    """The page, in a window of two panels of 300 pixels; fails if it asks for another file, or if
    it says anything."""
    # What is excused is the browser's, of drawing without a GPU.
    with pages.opened(browser, path, 800, 480, "GPU stall", ("data:", "blob:")) as page:
        yield page


def _seen(page: Page, panel: int) -> np.ndarray:
    """Returns the pixels (height, width, 3) of a panel, without its frame."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    data = page.locator("canvas").nth(panel).screenshot()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[8:-8, 8:-8]


def _expected(occupancy: np.ndarray, colour: tuple[int, int, int], shape, view) -> np.ndarray:
    """Returns what our own rays see: the smaller side of the panel is a side of the image."""
    side = min(shape) + 16
    views = Views(*(np.asarray(field)[np.newaxis] for field in view))
    (image,), _ = render(cells_mesh(occupancy, colour), views, side)
    whole = np.full((shape[0] + 16, shape[1] + 16, 3), 255, np.uint8)
    top, left = ((size - side) // 2 for size in whole.shape[:2])
    whole[top : top + side, left : left + side] = image
    return whole[8:-8, 8:-8]


def _compare(seen: np.ndarray, expected: np.ndarray) -> None:
    """The same pixels, in all but a few colours of nearly the same value."""
    ink, rays = (image.min(axis=-1) < 250 for image in (seen, expected))
    assert (ink & rays).sum() / (ink | rays).sum() > 0.96
    apart = np.abs(seen.astype(int) - expected)[ink & rays].max(axis=-1)
    assert np.percentile(apart, 90) < 16


def _compare_both(page: Page, scene: Scene, view: Views) -> None:
    grids = ((scene.predicted[1], PREDICTION), (scene.truth, TRUTH))
    for panel, (grid, colour) in enumerate(grids):
        seen = _seen(page, panel)
        _compare(seen, _expected(grid, colour, seen.shape[:2], view))


def test_it_opens_as_the_camera_sees_it(opened):
    scene = _scenes()[0]
    assert opened.title() == "Chairs <here> & there"
    assert opened.locator("output").inner_text() == "step 1: result"
    assert opened.locator("#iou").inner_text() == "IoU 100.0 %"
    for panel, (grid, colour) in enumerate(
        ((scene.predicted[1], PREDICTION), (scene.truth, TRUTH))
    ):
        seen = _seen(opened, panel)
        _compare(seen, _expected(grid, colour, seen.shape[:2], scene.view))


def test_slider_goes_back_to_the_first_guess(opened):
    scene = _scenes()[0]
    opened.locator("input[type=range]").press("Home")
    opened.wait_for_function("document.querySelector('output').textContent === 'first guess'")
    assert opened.locator("#iou").inner_text() == "IoU 61.0 %"
    seen = _seen(opened, 0)
    _compare(seen, _expected(scene.predicted[0], PREDICTION, seen.shape[:2], scene.view))
    orange = [_orange(_seen(opened, panel)) for panel in (0, 1)]
    assert orange == [0, 0]
    opened.locator("#differ input").check()
    orange = [_orange(_seen(opened, panel)) for panel in (0, 1)]
    assert orange[0] == 0  # all that is predicted is there
    assert orange[1] > 1000  # the back is not predicted


def _orange(image: np.ndarray) -> int:
    """Returns how many pixels are much more red than blue."""
    return int((image[..., 0].astype(int) - image[..., 2] > 80).sum())


def test_both_turn_with_the_mouse_and_back(opened):
    scene = _scenes()[0]
    box = opened.locator("canvas").nth(0).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    opened.mouse.move(x, y)
    opened.mouse.down()
    opened.mouse.move(x + 20, y)
    opened.mouse.move(x + min(box["width"], box["height"]) / 2, y)
    opened.mouse.up()
    # Half of the panel is a quarter of a turn: what is near moves as the mouse.
    assert opened.evaluate("view.azimuth") == pytest.approx(np.radians(-70 - 90), abs=0.02)
    turned = _view(-160.0)
    for panel, (grid, colour) in enumerate(
        ((scene.predicted[1], PREDICTION), (scene.truth, TRUTH))
    ):
        seen = _seen(opened, panel)
        _compare(seen, _expected(grid, colour, seen.shape[:2], turned))
    before = opened.evaluate("view.distance")
    opened.mouse.wheel(0, 100)
    opened.wait_for_function("before => view.distance > before", arg=before)
    opened.locator("canvas").nth(1).press("ArrowDown")
    assert opened.evaluate("view.elevation") == pytest.approx(np.radians(28) + 0.1, abs=1e-3)
    opened.locator("canvas").nth(1).dblclick()
    assert opened.evaluate("view") == pytest.approx(_data_camera(opened))


def _data_camera(page: Page) -> dict[str, float]:
    return page.evaluate("DATA.scenes[0].camera")


def test_another_example_without_truth(opened):
    scene = _scenes()[1]
    opened.locator("select").select_option("chair 2")
    opened.wait_for_function("document.querySelector('#iou').textContent === ''")
    assert [opened.locator("canvas").nth(i).is_visible() for i in (0, 1)] == [True, False]
    assert not opened.locator("#differ").is_visible()
    seen = _seen(opened, 0)
    _compare(seen, _expected(scene.predicted[1], PREDICTION, seen.shape[:2], scene.view))
