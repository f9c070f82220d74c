"""Who is followed through the frames, and what stands in for joints that nobody saw."""

import pathlib
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from ige.data.npz import load_npz
from ige.errors import UserError
from ige.hpe.gaps import fill, to_skeleton
from ige.hpe.keypoints import Keypoints
from ige.hpe.people import MAX_GAP, _assign, _boxes, _link, choose
from ige.hpe.skeleton import Skeleton, convert, get_skeleton

COCO = get_skeleton("coco_17")
H36M_16 = get_skeleton("h36m_16")

TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")

# An upright person of 170 by 60 pixels, seen from the front: y down, the right side on the left.
FRONT = {
    "nose": (0, 20),
    "left_eye": (4, 16),
    "right_eye": (-4, 16),
    "left_ear": (8, 18),
    "right_ear": (-8, 18),
    "left_shoulder": (20, 40),
    "right_shoulder": (-20, 40),
    "left_elbow": (28, 70),
    "right_elbow": (-28, 70),
    "left_wrist": (30, 95),
    "right_wrist": (-30, 95),
    "left_hip": (12, 100),
    "right_hip": (-12, 100),
    "left_knee": (14, 145),
    "right_knee": (-14, 145),
    "left_ankle": (15, 186),
    "right_ankle": (-15, 186),
}
STANDING = np.array([FRONT[joint] for joint in COCO.joints], float)


def people(*frames, names=None, ids=None, skeleton=COCO):
    """Keypoints of poses, one list per frame."""
    points = np.array([pose for poses in frames for pose in poses], float)
    counts = [len(poses) for poses in frames]
    seen = np.isfinite(points[..., 0])
    return Keypoints(
        path=pathlib.Path("walk.json"),
        format="hand-made",
        skeleton=skeleton,
        points=points,
        scores=seen.astype(float),
        frames=np.repeat(np.arange(len(frames)), counts),
        frame_names=names or tuple(f"f{i}" for i in range(len(frames))),
        ids=None if ids is None else np.array(ids),
    )


def at(x, size=1.0, y=0.0):
    return size * STANDING + [x, y]


def without(pose, *joints):
    pose = pose.copy()
    pose[[COCO.index(joint) for joint in joints]] = np.nan
    return pose


def test_one_person_is_followed_and_everything_is_kept():
    frames = [[at(10 * i)] for i in range(5)]
    track = choose(people(*frames), None, 0.5)
    np.testing.assert_array_equal(track.frames, range(5))
    np.testing.assert_array_equal(track.points, [poses[0] for poses in frames])
    assert track.pieces.tolist() == [0]
    assert track.notes == ["1 person in 5 frames"]


def crossing(order=(0, 1)):
    """Two people who walk past each other; the one from the left is larger."""
    pair = [[at(100 + 20 * i, 1.2), at(300 - 20 * i)] for i in range(11)]
    return [[poses[j] for j in (order if i % 2 else (0, 1))] for i, poses in enumerate(pair)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_people_who_cross_are_kept_apart(order):
    keypoints = people(*crossing(order))
    for person, expected in ((0, 0), (1, 1)):
        track = choose(keypoints, person, 0.5)
        truth = [poses[expected] for poses in crossing()]
        np.testing.assert_array_equal(track.points, truth)
        assert track.notes == [f"2 people in 11 frames, took person {person}: frames f0 to f10"]
    np.testing.assert_array_equal(
        choose(keypoints, None, 0.5).points, choose(keypoints, 0, 0.5).points
    )


def test_together_people_move_the_least():
    """Greedily the first would take the place of the second and leave that one a long way."""
    before, after = [at(0), at(30)], [at(28), at(58)]
    track = choose(people(before, after), 0, 0.5)
    moved = track.points[1] - track.points[0]
    np.testing.assert_array_equal(moved, np.full_like(moved, 28) * [1, 0])


def test_ids_go_before_places():
    frames = [[at(0), at(500, 1.1)], [at(0), at(500, 1.1)], [at(0)]]
    track = choose(people(*frames, ids=[7, 3, 3, 7, 3]), 0, 0.5)
    # 3: large, small, small; 7: small, large.
    np.testing.assert_array_equal(track.points, [frames[0][1], frames[1][0], frames[2][0]])


def test_gaps_up_to_ten_frames_are_the_same_person():
    for gap, count in ((10, 1), (11, 2)):
        track = choose(people([at(0)], *[[]] * gap, [at(5)]), None, 0.5)
        assert track.notes[0].startswith(f"{count} p")
        assert len(track.frames) == gap + 2
        assert np.isnan(track.points[1:-1]).all()
        assert track.pieces.tolist() == [0, gap + 1][:count]
    assert track.notes == [
        "2 people in 13 frames, took the largest: frames f0 to f12",
        "goes from person 0 to person 1 at frame f12",
        "not seen in 11 of 13 frames (f1, f2, f3, f4, f5 and 6 more)",
    ]


def test_the_next_largest_takes_over():
    large, small, late = [at(100 + i, 2) for i in range(4)], at(800), at(1500, 0.5)
    frames = [[large[0], small], [large[1], small], [small], [small, late], [late]]
    track = choose(people(*frames), None, 0.5)
    np.testing.assert_array_equal(track.points, [large[0], large[1], small, small, late])
    assert track.pieces.tolist() == [0, 2, 4]
    assert track.notes == [
        "3 people in 5 frames, took the largest: frames f0 to f4",
        "goes from person 0 to person 1 at frame f2, 2 at frame f4",
    ]
    alone = choose(people(*frames), 1, 0.5)
    np.testing.assert_array_equal(alone.frames, range(4))
    assert alone.pieces.tolist() == [0]


def test_nobody_steps_in_for_a_moment():
    """Where the largest is lost for two frames and somebody else is there all the time."""
    frames = [[at(100 + i, 2), at(800)] for i in range(20)]
    del frames[8][0], frames[9][0]
    track = choose(people(*frames), None, 0.5)
    assert track.pieces.tolist() == [0]
    assert np.isnan(track.points[8:10]).all()
    filled, notes = fill(track)
    np.testing.assert_allclose(filled[8:10], [at(108, 2), at(109, 2)])
    assert notes[0].startswith("filled in over time: nose in 2, left_shoulder in 2, ")


def test_unrelated_images_give_the_largest_of_each():
    frames = [[at(400 * (i % 3), 1, 300 * (i % 2)), at(1000, 2, 700 * (i % 2))] for i in range(8)]
    frames[3].pop()
    track = choose(people(*frames), None, 0.5)
    np.testing.assert_array_equal(track.points, [poses[-1] for poses in frames])
    assert track.notes == ["8 unrelated images: took the largest person of 8"]
    assert track.pieces.tolist() == list(range(8))
    second = choose(people(*frames), 1, 0.5)
    assert second.frames.tolist() == [0, 1, 2, 4, 5, 6, 7]
    np.testing.assert_array_equal(second.points, [frames[i][0] for i in second.frames])
    with pytest.raises(UserError, match=r"hpe.predict.person = 2, expected 0 .* to 1$"):
        choose(people(*frames), 2, 0.5)


def test_confidence():
    keypoints = people([at(0), at(900, 2)], [at(0)])
    keypoints.scores[0, 3] = 0.3
    keypoints.scores[1] = 0.4
    track = choose(keypoints, None, 0.5)
    assert track.notes == ["1 person in 2 frames"]
    assert np.argwhere(np.isnan(track.points[..., 0])).tolist() == [[0, 3]]
    assert choose(keypoints, None, 0.4).notes[0].startswith("2 people")


@pytest.mark.parametrize(
    ("person", "confidence", "message"),
    [
        (
            2,
            0.5,
            "walk.json: got hpe.predict.person = 2, expected 0 (the largest) to 1, as there are 2",
        ),
        (
            -1,
            0.5,
            "walk.json: got hpe.predict.person = -1, expected 0 (the largest) to 1, as there are 2",
        ),
        (
            None,
            1.5,
            "walk.json: no joint of anybody has a confidence of at least 1.5 (highest: 1); lower "
            "hpe.predict.min_confidence",
        ),
    ],
)
def test_refusals(person, confidence, message):
    with pytest.raises(UserError) as caught:
        choose(people([at(0), at(900)]), person, confidence)
    assert str(caught.value) == message


def test_gaps_are_filled_in_over_time_and_ends_held():
    """As the trunk moves, the held ones go on with it."""
    frames = [[at(10 * i)] for i in range(6)]
    for i in (0, 2, 3):
        frames[i] = [without(frames[i][0], "left_wrist")]
    frames[5] = [without(frames[5][0], "left_ear")]
    points, notes = fill(choose(people(*frames), None, 0.5))
    expected = np.array([at(10 * i) for i in range(6)])
    np.testing.assert_allclose(points, expected)
    assert notes == ["filled in over time: left_wrist in 3 of 6 frames"]  # ears go unreported


def test_nothing_is_filled_in_across_a_jump():
    frames = [[without(at(0), "left_ankle")], [at(900)], [without(at(900), "right_ankle")]]
    track = choose(people(*frames), None, 0.5)
    assert track.pieces.tolist() == [0, 1]
    points, notes = fill(track)
    # right ankle (-15, 186) - right knee (-14, 145), from the left knee (14, 145)
    np.testing.assert_allclose(points[0, COCO.index("left_ankle")], [13, 186])
    np.testing.assert_allclose(points[2, COCO.index("right_ankle")], [885, 186])
    assert notes == [
        "filled in over time: right_ankle in 1 of 3 frames",
        "never seen, put parallel to the other side: left_ankle in 1 of 3 frames",
    ]


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        # Parallel: parent + (other - its parent).
        (("left_wrist",), {"left_wrist": (28 - 2, 70 + 25)}),
        # Elbow: left shoulder (20, 40) + (-8, 30); wrist: from there (-2, 25).
        (("left_elbow", "left_wrist"), {"left_elbow": (12, 70), "left_wrist": (10, 95)}),
        # Straight on: parent + (parent - grandparent).
        (
            ("left_wrist", "right_wrist"),
            {"left_wrist": (28 + 8, 70 + 30), "right_wrist": (-28 - 8, 70 + 30)},
        ),
        # The other wrist without its elbow says nothing.
        (("right_elbow", "left_wrist"), {"left_wrist": (36, 100), "right_elbow": (-12, 70)}),
        # Hanging: the torso goes up by 60.
        (
            ("left_knee", "right_knee", "left_ankle", "right_ankle"),
            {
                "left_knee": (12, 100 + 1.06 * 60),
                "left_ankle": (12, 100 + 2.12 * 60),
                "right_ankle": (-12, 100 + 2.12 * 60),
            },
        ),
        (("left_elbow", "right_elbow"), {"right_elbow": (-20, 40 + 0.61 * 60)}),
        # The back of a head without ears.
        (("nose", "left_eye", "right_eye", "left_ear", "right_ear"), {"nose": (0, 40 - 0.32 * 60)}),
    ],
)
def test_joints_that_are_never_seen(lost, expected):
    points, notes = fill(choose(people([without(STANDING, *lost)]), None, 0.5))
    for joint, place in expected.items():
        np.testing.assert_allclose(points[0, COCO.index(joint)], place, err_msg=joint)
    reported = [joint for joint in COCO.joints if joint in lost and not joint.endswith("eye")]
    reported = [joint for joint in reported if not joint.endswith("ear")]
    assert all(note.startswith("never seen, put ") for note in notes)
    assert sorted(re.findall(r"(\w+) in 1", " ".join(notes))) == sorted(reported)
    seen = [i for i, joint in enumerate(COCO.joints) if joint not in lost]
    np.testing.assert_array_equal(points[0, seen], STANDING[seen])


def test_seen_from_behind():
    """Ears stand for the nose, and with it for the head_top: no time, no limbs."""
    behind = without(STANDING, "nose", "left_eye", "right_eye")
    points, notes = fill(choose(people([behind]), None, 0.5))
    assert np.isnan(points[0, 0]).all()
    assert notes == ["never seen, put together from other joints: nose in 1 of 1 frames"]
    converted = to_skeleton(points, COCO, H36M_16)
    assert converted[0, H36M_16.index("nose")].tolist() == [0, 18]
    # thorax (0, 40) + 5/3 (0, -22)
    np.testing.assert_allclose(
        converted[0, H36M_16.index("head_top")], [0, 40 - 22 * 5 / 3], atol=1e-9
    )
    np.testing.assert_allclose(converted[0, H36M_16.index("thorax")], [0, 40], atol=1e-9)


def test_every_pattern_of_missing_joints_is_converted_by_itself():
    half = without(STANDING, "nose", "left_ear")
    poses = np.stack([STANDING, half, STANDING + 5])
    converted = to_skeleton(poses, COCO, H36M_16)
    np.testing.assert_allclose(converted[[0, 2]], convert(poses[[0, 2]], COCO, H36M_16))
    assert converted[1, H36M_16.index("nose")].tolist() == [0, 16]  # between the eyes


@pytest.mark.parametrize("joint", TORSO)
def test_a_torso_that_is_never_seen_is_refused(joint):
    frames = [[without(at(0), joint)], [without(at(1), joint)]]
    message = f"walk.json: frames f0 to f1: {joint} is never seen, expected shoulders and hips at "
    message += "least once: a lifter needs them; lower hpe.predict.min_confidence, choose another "
    message += "hpe.predict.person, or cut these frames out"
    with pytest.raises(UserError) as caught:
        fill(choose(people(*frames), None, 0.5))
    assert str(caught.value) == message


def test_a_passer_by_without_hips_is_left_out():
    """Whoever is seen well is taken; a bust later on does not spoil that."""
    bust = without(at(900), "left_hip", "right_hip")
    frames = [[at(0)], [at(1)], [bust], [bust], [at(2)]]
    track = choose(people(*frames), None, 0.5)
    points, _ = fill(track)
    np.testing.assert_allclose(points[[0, 1, 4]], [at(0), at(1), at(2)])
    assert "left out: people without shoulders or hips, first at frame f2" in track.notes
    with pytest.raises(UserError, match="left_hip is never seen"):
        fill(choose(people(*frames), 1, 0.5))


def test_a_hidden_hand_goes_with_its_owner():
    """Who walks away and back with a hand out of sight has it at hand all the time."""
    frames = [[at(10 * min(i, 20 - i))] for i in range(21)]
    for i in range(1, 20):
        frames[i] = [without(frames[i][0], "left_wrist")]
    points, _ = fill(choose(people(*frames), None, 0.5))
    np.testing.assert_allclose(points, [at(10 * min(i, 20 - i)) for i in range(21)])


def test_a_point_is_nobody():
    frames = [[at(i)] for i in range(4)]
    frames[2] = [np.full_like(STANDING, 50.0)]
    track = choose(people(*frames), None, 0.5)
    assert np.isnan(track.points[2]).all()
    np.testing.assert_allclose(fill(track)[0][2], at(2))


def follow_plainly(points, frames):
    """What `_link` does, without short cuts: every frame against all seen shortly before."""
    lengths = np.linalg.norm(_boxes(points), axis=1)
    labels, last, count = np.full(len(points), -1), {}, 0
    for frame in np.unique(frames):
        rows = np.flatnonzero(frames == frame)
        last = {t: row for t, row in last.items() if frame - frames[row] <= MAX_GAP + 1}
        for track, row in _assign(points, lengths, last, rows):
            labels[row] = track
        for row in rows:
            if labels[row] < 0:
                labels[row], count = count, count + 1
            last[int(labels[row])] = int(row)
    return labels


@pytest.mark.parametrize("seed", range(40))
def test_short_cuts_follow_the_same_people(seed):
    rng = np.random.default_rng(seed)
    points, frames, frame = [], [], 0
    places = rng.normal(0, 200, (3, 1, 2))
    for _ in range(60):
        frame += int(rng.choice([1, 1, 1, 1, 2, 9, 12, 13, 30]))
        places += rng.normal(0, rng.choice([5, 60]), places.shape)
        for person in range(rng.choice([1, 1, 1, 1, 2, 3])):
            pose = STANDING + places[person] + rng.normal(0, 3, STANDING.shape)
            pose[rng.random(len(pose)) < 0.2] = np.nan
            points.append(pose)
            frames.append(frame)
    points, frames = np.array(points), np.array(frames)
    np.testing.assert_array_equal(_link(points, frames), follow_plainly(points, frames))


def test_a_joint_that_cannot_be_had_is_named():
    message = "skeleton coco_17 cannot be converted to h36m_32: it has no right_foot, nor the "
    with pytest.raises(UserError, match=message):
        to_skeleton(STANDING[np.newaxis], COCO, get_skeleton("h36m_32"))
    lost = without(STANDING, "left_hip")[np.newaxis]
    with pytest.raises(UserError, match="coco_17 cannot be converted to h36m_16: it has no left_h"):
        to_skeleton(lost, COCO, H36M_16)


@hypothesis.given(data=st.data())
@hypothesis.settings(derandomize=True, deadline=None, max_examples=60)
def test_whatever_is_missing_no_pose_is_left_incomplete(data):
    """Or one line says why; and what was seen of the one who is followed stays as it was."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    skeleton = get_skeleton(data.draw(st.sampled_from(["coco_17", "openpose_25", "halpe_26"])))
    frames = []
    for _ in range(data.draw(st.integers(1, 30))):
        poses = rng.uniform(0, 300, (rng.integers(0, 3), skeleton.num_joints, 2))
        poses[rng.random(poses.shape[:2]) < data.draw(st.sampled_from([0, 0.3, 0.8]))] = np.nan
        frames.append([pose for pose in poses if np.isfinite(pose).any()])
    hypothesis.assume(any(frames))
    keypoints = people(*frames, skeleton=skeleton)
    track = choose(keypoints, data.draw(st.sampled_from([None, 0])), 0.5)
    assert np.isfinite(track.points[[0, -1], :, 0]).any(axis=1).all()
    try:
        points, _ = fill(track)
    except UserError as error:
        told = str(error)
    else:
        told = ""
    torso = track.points[:, [skeleton.index(joint) for joint in TORSO], 0]
    pieces = np.split(torso, track.pieces[1:])
    assert bool(told) == any(np.isnan(piece).all(axis=0).any() for piece in pieces)
    if told:
        assert re.fullmatch(r"walk.json: frames f\d+ to f\d+: \w+ is never seen, .*", told)
        return
    seen = np.isfinite(track.points)
    np.testing.assert_array_equal(points[seen], track.points[seen])
    assert np.isfinite(to_skeleton(points, skeleton, H36M_16)).all()


@pytest.mark.real_data
def test_recordings_with_two_people(real_data):
    """Two recordings side by side, in changing order: both are followed without a jump."""
    archive = load_npz(real_data / "h3m" / "data_2d_h36m_gt.npz")["positions_2d"]
    h36m = get_skeleton("h36m_17")
    for subject, recordings in archive.items():
        for views in recordings.values():
            first, second = np.asarray(views[0], float), np.asarray(views[1], float)[::-1]
            frames = min(len(first), len(second))
            pairs = np.stack([first[:frames], second[:frames] + np.array([400, 0])], axis=1)
            pairs = pairs[::5]  # 10 frames per second
            pairs[1::2] = pairs[1::2, ::-1]
            keypoints = people(*pairs, skeleton=h36m)
            tracks = [choose(keypoints, person, 0.5) for person in (0, 1)]
            pairs[1::2] = pairs[1::2, ::-1]
            found = sorted(track.points.tolist() for track in tracks)
            assert found == sorted([pairs[:, 0].tolist(), pairs[:, 1].tolist()]), subject


# Percent of the torso's length, median over the frames of a recording: what each rule costs. The
# motion capture has its thorax between the shoulders.
OFF = {"spine": 11, "nose": 8, "head_top": 13, "thorax": 0.01, "pelvis": 0.01}


@pytest.mark.real_data
def test_synthesised_joints_lie_near_the_recorded_ones(real_data):
    archive = load_npz(real_data / "h3m" / "data_3d_h36m.npz")["positions_3d"]
    h36m = get_skeleton("h36m_17")
    for recordings in archive.values():
        for poses in recordings.values():
            truth = convert(np.asarray(poses, float), get_skeleton("h36m_32"), h36m)
            place = {joint: truth[:, i] for i, joint in enumerate(h36m.joints)}
            sides = [place[f"left_{p}"] + place[f"right_{p}"] for p in ("shoulder", "hip")]
            torso = np.linalg.norm(sides[0] - sides[1], axis=-1) / 2
            for joint, limit in OFF.items():
                lost = truth.copy()
                lost[:, h36m.index(joint)] = np.nan
                found = to_skeleton(lost, h36m, Skeleton("one", (joint,), (-1,)))[:, 0]
                off = np.linalg.norm(found - place[joint], axis=-1) / torso
                assert 100 * np.median(off) < limit, joint
