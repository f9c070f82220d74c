"""The page of moving skeletons: what is in the file, and what a browser makes of it."""

import base64
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pages
import pytest
from playwright.sync_api import Page

from ige.hpe.motion import COLOURS, Motion
from ige.hpe.skeleton import Skeleton, get_skeleton
from ige.hpe.viewer import write_viewer

SKELETON = get_skeleton("h36m_17")
FRAMES = 200
LABELS = [f"f{step}" for step in range(FRAMES)]
DESCENT_FRAMES = 12
OF_PLOTLY = "willReadFrequently"  # of a warning about what plotly.js does
ITERATES = ["first guess", "step 1", "step 2: result"]


def _person() -> np.ndarray:
    """(17, 3) metres: stands at the origin, right hand at -x, looks towards -y."""
    heights = {"hip": 0.9, "knee": 0.5, "ankle": 0.1, "shoulder": 1.4, "elbow": 1.1, "wrist": 0.8}
    heights |= {"pelvis": 0.9, "spine": 1.15, "thorax": 1.4, "nose": 1.55, "head_top": 1.7}
    x = {"left": 0.2, "right": -0.2, "centre": 0.0}
    return np.array(
        [
            (x[side], 0, heights[joint.removeprefix("left_").removeprefix("right_")])
            for joint, side in zip(SKELETON.joints, SKELETON.sides, strict=True)
        ]
    )


def _motions() -> list[Motion]:
    """Truth and a prediction 1 cm above it walk 2 m along x; a 2D pose stands, another moves."""
    walk = _person() + np.linspace([-1, 0, 0], [1, 0, 0], FRAMES)[:, np.newaxis]
    image = np.stack([walk[..., 0] * 100, 200 - walk[..., 2] * 100], axis=-1)
    errors = np.full((FRAMES, SKELETON.num_joints), 10.0)
    return [
        Motion("ground truth", walk, SKELETON),
        Motion("prediction", walk + np.array([0, 0, 0.01]), SKELETON, errors),
        Motion("observed", image[:1], SKELETON),
        Motion("projected", image + 3, SKELETON),
    ]


def _descent() -> list[Motion]:
    """Truth and three iterates, the last of which is the truth; observed and projected."""
    truth, _, _, observed = (motion[:DESCENT_FRAMES] for motion in _motions())
    away = np.array([2, 1, 0]).reshape(1, 3, 1, 1)
    errors = np.broadcast_to(10.0 * away[..., 0], (DESCENT_FRAMES, 3, SKELETON.num_joints))
    return [
        truth,
        Motion("prediction", truth.poses[:, np.newaxis] + 0.2 * away, SKELETON, errors),
        observed,
        Motion("projection", observed.poses[:, np.newaxis] + 30 * away, SKELETON),
    ]


def _read(path: pathlib.Path) -> tuple[list, dict, list]:
    """Returns data, layout and frames of the figure in a page."""
    text = path.read_text("utf-8")
    found = []
    for call, count in (("Plotly.newPlot(", 3), ("Plotly.addFrames(", 2)):
        rest = text[text.rindex(call) + len(call) :].lstrip() if call in text else ""
        for _ in range(count):
            if rest.startswith("'plot'"):
                rest = '"plot"' + rest.removeprefix("'plot'")
            value, end = json.JSONDecoder().raw_decode(rest)
            found.append(value)
            rest = rest[end:].lstrip(" ,\n")
    _, data, layout, _, frames = found
    return data, layout, frames


def _array(value: dict[str, str]) -> np.ndarray:
    assert value["dtype"] == "f4"
    return np.frombuffer(base64.b64decode(value["bdata"]), "<f4")


def _points(trace: dict[str, Any]) -> np.ndarray:
    """Returns (bones, 2, dimensions) of a trace: both ends of every bone."""
    points = np.stack([_array(trace[axis]) for axis in "xyz" if axis in trace], axis=-1)
    points = points.reshape(-1, 3, points.shape[-1])
    assert np.isnan(points[:, 2]).all()  # between bones the line has gaps
    return points[:, :2]


def _bones(skeleton: Skeleton, *sides: str) -> list[tuple[int, int]]:
    """Returns (parent, child) of the bones that end in a joint of these sides, side by side."""
    return [
        (parent, child)
        for side in sides
        for child, parent in skeleton.bones
        if skeleton.sides[child] == side
    ]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("viewer") / "motion.html"
    write_viewer(path, _motions(), "Walking <there> & back", LABELS)
    return path


@pytest.fixture(scope="module")
def descent_path(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("viewer") / "descent.html"
    write_viewer(path, _descent(), "Descending", LABELS[:DESCENT_FRAMES], iterates=ITERATES)
    return path


def test_every_frame_is_in_the_file(path):
    motions = _motions()
    data, _, frames = _read(path)
    assert not [frame for frame in frames if "baseframe" in frame]
    assert [frame["name"] for frame in frames] == [str(step) for step in range(FRAMES)]
    whole = _bones(SKELETON, "centre", "left", "right")
    for step, frame in enumerate(frames):
        # One trace for each in 3D, three for what moves in 2D; what stands still has none.
        assert frame["traces"] == [0, 1, 5, 6, 7]
        for motion, trace in zip(motions[:2], frame["data"][:2], strict=True):
            np.testing.assert_allclose(_points(trace), motion.poses[step][whole], atol=1e-6)
        for side, trace in zip(("centre", "left", "right"), frame["data"][2:], strict=True):
            expected = motions[3].poses[step][_bones(SKELETON, side)]
            np.testing.assert_allclose(_points(trace), expected, atol=1e-4)
    np.testing.assert_array_equal(_points(data[0]), _points(frames[0]["data"][0]))
    observed = motions[2].poses[0][_bones(SKELETON, "left")]
    np.testing.assert_allclose(_points(data[3]), observed, atol=1e-4)


def test_every_iterate_is_in_the_file(descent_path):
    motions = _descent()
    data, _, frames = _read(descent_path)
    assert len(frames) == DESCENT_FRAMES * (1 + len(ITERATES))
    frames = {frame["name"]: frame for frame in frames}
    whole = _bones(SKELETON, "centre", "left", "right")
    for step in range(DESCENT_FRAMES):
        base = frames[str(step)]
        assert base["traces"] == [0, 2, 3, 4]  # the truth in 3D, what is observed in 2D
        np.testing.assert_allclose(
            _points(base["data"][0]), motions[0].poses[step][whole], atol=1e-6
        )
        for iterate in range(len(ITERATES)):
            frame = frames[f"{step}/{iterate}"]
            assert frame["baseframe"] == str(step)
            assert frame["traces"] == [1, 5, 6, 7]
            poses = (motion.poses[step, iterate] for motion in (motions[1], motions[3]))
            for trace, pose, bones in zip(
                frame["data"], poses, (whole, _bones(SKELETON, "centre")), strict=False
            ):
                np.testing.assert_allclose(_points(trace), pose[bones], atol=1e-4)
            errors = _array(frame["data"][0]["customdata"]).reshape(-1, 3)[:, :2]
            np.testing.assert_allclose(errors, 20 - 10 * iterate)
    # It opens with the result.
    np.testing.assert_array_equal(_points(data[1]), _points(frames["0/2"]["data"][0]))


def test_parts_are_in_the_file_and_names_are_escaped(tmp_path):
    motion = _motions()[0][:5]
    parts = {"<b>one": 2, "other": 3}
    write_viewer(tmp_path / "parts.html", [motion], "", LABELS[:5], parts=parts)
    text = (tmp_path / "parts.html").read_text("utf-8")
    assert "<option>&lt;b&gt;one</option><option>other</option>" in text
    assert '"parts":[[0,1],[2,4]]' in text
    assert [frame["name"] for frame in _read(tmp_path / "parts.html")[2]] == list("01234")


def test_joints_have_names_colours_and_errors(path):
    data, _, frames = _read(path)
    joints = [joint for bone in _bones(SKELETON, "centre", "left", "right") for joint in bone]
    for values, expected in (
        (data[1]["text"], [SKELETON.joints[joint].replace("_", " ") for joint in joints]),
        (data[1]["marker"]["color"], [COLOURS[SKELETON.sides[joint]] for joint in joints]),
    ):
        assert [value for i, value in enumerate(values) if i % 3 < 2] == expected
    assert "error" not in data[0]["hovertemplate"]
    assert "z %{z:.3f} m" in data[0]["hovertemplate"]
    assert "error %{customdata:.1f} mm" in data[1]["hovertemplate"]
    errors = _array(frames[7]["data"][1]["customdata"]).reshape(-1, 3)
    np.testing.assert_array_equal(errors[:, :2], np.full((16, 2), 10))


def test_motions_differ_in_line_and_marker(path):
    data, _, _ = _read(path)
    for first, second in ((0, 1), (2, 5)):
        assert data[first]["line"]["dash"] != data[second]["line"]["dash"]
        assert data[first]["line"]["width"] != data[second]["line"]["width"]
        assert data[first]["marker"]["symbol"] != data[second]["marker"]["symbol"]


def test_axes_are_equal_and_hold_every_frame(path):
    _, layout, _ = _read(path)
    ranges = np.array([layout["scene"][f"{axis}axis"]["range"] for axis in "xyz"])
    ratio = np.array([layout["scene"]["aspectratio"][axis] for axis in "xyz"])
    lengths = (ranges[:, 1] - ranges[:, 0]) / ratio
    np.testing.assert_allclose(lengths, lengths[0])
    points = np.concatenate([motion.poses.reshape(-1, 3) for motion in _motions()[:2]])
    assert (ranges[:, 0] < points.min(axis=0)).all()
    assert (ranges[:, 1] > points.max(axis=0)).all()
    assert layout["yaxis"]["range"][0] > layout["yaxis"]["range"][1]  # y down
    assert layout["yaxis"]["scaleanchor"] == "x"


def test_camera_is_before_the_person_and_above(path):
    _, layout, _ = _read(path)
    eye = layout["scene"]["camera"]["eye"]
    # They walk sideways: more from before than from a side is where most of the walk is in view.
    assert eye["y"] < -abs(eye["x"])
    assert eye["z"] > 0


def test_who_walks_ahead_is_seen_from_the_side(tmp_path):
    walk = _person() + np.linspace([0, 0, 0], [0, -4, 0], 5)[:, np.newaxis]
    write_viewer(tmp_path / "ahead.html", [Motion("one", walk, SKELETON)], "", LABELS[:5])
    _, layout, _ = _read(tmp_path / "ahead.html")
    eye = layout["scene"]["camera"]["eye"]
    assert eye["y"] < 0 < eye["z"]
    assert abs(eye["x"]) > abs(eye["y"])


def test_nothing_is_moving(tmp_path):
    write_viewer(tmp_path / "still.html", [Motion("one", _person()[np.newaxis], SKELETON)], "", [])
    text = (tmp_path / "still.html").read_text("utf-8")
    assert "<footer hidden>" in text
    assert "Plotly.addFrames('plot'" not in text


def test_text_is_escaped_and_nothing_is_loaded(tmp_path):
    evil = "</script><script src='https://example.org'>$title ${x} {plot_id}"
    pose = _person()[np.newaxis].repeat(2, axis=0)
    motion = Motion(evil, pose, SKELETON)
    write_viewer(tmp_path / "evil.html", [motion], evil, [evil, evil], step_name=evil)
    found = pages.elements(tmp_path / "evil.html")
    assert [tag for tag, _ in found].count("script") == 4
    assert not [tag for tag, attributes in found if {"src", "href"} & set(attributes)]
    assert ("meta", {"charset": "utf-8"}) in found


@pytest.fixture(scope="module")
def opened(browser, path) -> Iterator[Page]:
    with pages.opened(browser, path, 1280, 800, OF_PLOTLY) as page:
        yield page


def _drawn(page: Page, trace: int) -> np.ndarray:
    """Returns the points that the graphics card has of a 3D trace, in metres."""
    points, scale = page.evaluate(
        """trace => { const scene = plot._fullLayout.scene._scene;
        return [scene.traces[plot._fullData[trace].uid].dataPoints, scene.dataScale]; }""",
        trace,
    )
    return np.array(points, float).reshape(-1, 3, 3)[:, :2] / scale


def _click_slider(page: Page, fraction: float) -> int:
    """Clicks on the slider and returns the step that is shown then."""
    box = page.locator("input").bounding_box()
    before = page.locator("output").inner_text()
    page.mouse.click(box["x"] + fraction * box["width"], box["y"] + box["height"] / 2)
    page.wait_for_function(
        "before => document.querySelector('output').textContent !== before", arg=before
    )
    return int(page.locator("output").inner_text().removeprefix("frame f"))


def _wait_until_shown(page: Page, step: int) -> None:
    _wait_until_drawn(page, 0, _motions()[0].poses[step])


def _wait_until_drawn(page: Page, trace: int, pose: np.ndarray) -> None:
    page.wait_for_function(
        """([trace, x]) => { const scene = plot._fullLayout.scene._scene;
        const points = scene.traces[plot._fullData[trace].uid].dataPoints;
        return Math.abs(points[0][0] / scene.dataScale[0] - x) < 1e-5; }""",
        arg=[trace, float(pose[_bones(SKELETON, "centre")[0][0], 0])],
    )


def _drawn_flat(page: Page, trace: int) -> np.ndarray:
    """Returns the points that are drawn of a 2D trace, in its unit."""
    points = page.evaluate("trace => plot.calcdata[trace].map(({x, y}) => [x, y])", trace)
    return np.array(points, float).reshape(-1, 3, 2)[:, :2]


def test_slider_moves_the_joints(opened):
    assert opened.title() == "Walking <there> & back"
    step = _click_slider(opened, 0.75)
    assert 0.7 * FRAMES < step < 0.8 * FRAMES
    _wait_until_shown(opened, step)
    whole = _bones(SKELETON, "centre", "left", "right")
    for trace, motion in enumerate(_motions()[:2]):
        np.testing.assert_allclose(_drawn(opened, trace), motion.poses[step][whole], atol=1e-5)
    opened.keyboard.press("ArrowLeft")
    _wait_until_shown(opened, step - 1)


@pytest.mark.parametrize("playing", [False, True])
def test_the_view_stays_where_it_was_turned(opened, playing):
    eye = "Object.values(plot._fullLayout.scene._scene.getCamera().eye)"
    step = _click_slider(opened, 0.1)
    _wait_until_shown(opened, step)
    if playing:
        opened.locator("footer button").click()
    before = opened.evaluate(eye)
    opened.mouse.move(300, 400)
    opened.mouse.down()
    for x in range(310, 600, 10):
        opened.mouse.move(x, 400)
        opened.wait_for_timeout(50)  # the scene asks where the mouse is when it is drawn
        if np.linalg.norm(np.subtract(opened.evaluate(eye), before)) > 0.2:
            break
    opened.mouse.up()
    opened.wait_for_timeout(300)
    turned = opened.evaluate(eye)
    assert np.linalg.norm(np.subtract(turned, before)) > 0.2
    if playing:
        shown = int(opened.locator("input").input_value())
        opened.wait_for_function(
            "shown => Number(document.querySelector('input').value) > shown + 2", arg=shown
        )
        opened.locator("footer button").click()
    else:
        _wait_until_shown(opened, _click_slider(opened, 0.25))
    np.testing.assert_allclose(opened.evaluate(eye), turned, atol=1e-6)


def test_legend_hides_and_shows_a_motion(opened):
    seen = """() => plot._fullData.filter(t => t.visible === true && t.text).map(t => t.name)"""
    everything = ["ground truth", "prediction", *["observed"] * 3, *["projected"] * 3]
    assert opened.evaluate(seen) == everything
    for name in ("prediction", "projected"):
        kept = [other for other in everything if other != name]
        entry = opened.locator(".legend .traces", has_text=name).locator(".legendtoggle")
        for expected in (kept, everything):
            entry.click()
            opened.wait_for_function(
                f"expected => String(({seen})()) === expected", arg=",".join(expected)
            )
            # plotly.js takes two clicks within 300 ms for a double click.
            opened.wait_for_timeout(400)


def test_play_pause_and_the_end(opened):
    step = _click_slider(opened, 0.1)
    button, label = opened.locator("footer button"), opened.locator("output")
    button.click()
    assert button.inner_text() == "Pause"
    opened.wait_for_function(
        "step => Number(document.querySelector('input').value) > step + 3", arg=step
    )
    button.click()
    assert button.inner_text() == "Play"
    opened.wait_for_timeout(200)  # for a step that was being drawn
    paused = label.inner_text()
    opened.wait_for_timeout(300)
    assert label.inner_text() == paused
    opened.locator("input").press("End")
    opened.locator("input").press("ArrowLeft")
    button.click()
    opened.wait_for_function("document.querySelector('footer button').textContent === 'Play'")
    assert label.inner_text() == f"frame {LABELS[-1]}"
    button.click()
    opened.wait_for_function("Number(document.querySelector('input').value) < 100")
    button.click()


def test_a_telephone_shows_everything_upright_and_turned(browser, path):
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    pages.show(page, path)
    for width, height in ((390, 844), (844, 390)):
        page.set_viewport_size({"width": width, "height": height})
        # Scene and panel: one above the other, then beside each other.
        page.wait_for_function(
            """beside => { const {scene, xaxis, width} = plot._fullLayout;
            return width === innerWidth && scene.domain.x[1] < xaxis.domain[0] === beside; }""",
            arg=width > height,
        )
        boxes = [page.locator(name).bounding_box() for name in ("header", ".legend", "footer")]
        edges = [edge for box in boxes for edge in (box["y"], box["y"] + box["height"])]
        assert edges == sorted(edges)
        assert edges[-1] <= height
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def test_step_slider_moves_the_prediction_and_its_projection(browser, descent_path):
    """On a telephone: there the sliders have the least room."""
    truth, guesses, observed, projected = _descent()
    whole, centre = _bones(SKELETON, "centre", "left", "right"), _bones(SKELETON, "centre")
    with pages.opened(browser, descent_path, 390, 844, OF_PLOTLY) as page:
        frames, steps = page.locator("input").all()
        labels = page.locator("output")

        def check(frame, iterate):
            _wait_until_drawn(page, 1, guesses.poses[frame, iterate])
            assert labels.all_inner_texts() == [f"frame f{frame}", ITERATES[iterate]]
            for trace, pose in ((0, truth.poses[frame]), (1, guesses.poses[frame, iterate])):
                np.testing.assert_allclose(_drawn(page, trace), pose[whole], atol=1e-5)
            for trace, pose in ((2, observed.poses[frame]), (5, projected.poses[frame, iterate])):
                np.testing.assert_allclose(_drawn_flat(page, trace), pose[centre], atol=1e-3)

        check(0, 2)
        steps.press("Home")
        check(0, 0)
        frames.fill("7")
        check(7, 0)
        steps.press("ArrowRight")
        check(7, 1)
        # Each slider has a button of its own, and all are in sight.
        play_frames, play_steps = page.locator("footer button").all()
        play_steps.click()
        check(7, 2)
        assert play_steps.inner_text() == "Play"
        play_frames.click()
        check(DESCENT_FRAMES - 1, 2)
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_parts_are_chosen_from_a_list_and_the_slider_goes_along_one(browser, tmp_path):
    """By keyboard, with 101 steps in the first part and 99 in the other."""
    path = tmp_path / "parts.html"
    parts = {"to the middle": 101, "onwards": 99}
    write_viewer(path, _motions()[:1], "In parts", LABELS, parts=parts)
    with pages.opened(browser, path, 390, 844, OF_PLOTLY) as page:
        label, slider, choice = (page.locator(name) for name in ("output", "input", "select"))

        def check(step, first, last):
            assert label.inner_text() == f"frame f{step}"
            assert slider.get_attribute("min") == str(first)
            assert slider.get_attribute("max") == str(last)
            _wait_until_shown(page, step)

        def press(where, key, step):
            where.press(key)
            page.wait_for_function(
                "text => document.querySelector('output').textContent === text",
                arg=f"frame f{step}",
            )

        check(0, 0, 100)
        press(slider, "End", 100)
        check(100, 0, 100)
        # As far along as before: at the end.
        press(choice, "ArrowDown", 199)
        check(199, 101, 199)
        press(slider, "Home", 101)
        press(choice, "ArrowUp", 0)
        press(slider, "End", 100)
        # Played from the end, a part begins at its own first step.
        press(choice, "ArrowDown", 199)
        button = page.locator("footer button")
        button.click()
        page.wait_for_function("document.querySelector('input').valueAsNumber < 190")
        button.click()
        assert int(label.inner_text().removeprefix("frame f")) >= 101
        boxes = [page.locator(name).bounding_box() for name in ("select", "footer button")]
        assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]
        assert page.evaluate("document.documentElement.scrollWidth") == 390
