import pytest

from ige.hpe.data.human_eva.names import published_frames
from ige.hpe.data.human_eva.synthetic import LONGEST, SyntheticSpec, recording, write_synthetic


def test_the_same_people_are_the_same_bytes(files, generated, tmp_path):
    write_synthetic(tmp_path, files.SPEC)
    for path in (path for path in generated.rglob("*") if path.is_file()):
        assert (tmp_path / path.relative_to(generated)).read_bytes() == path.read_bytes()


def test_other_seeds_are_other_recordings():
    first, second = (recording(SyntheticSpec(seed, 2), "S1", "Box", 3)[0] for seed in (0, 1))
    assert abs(first - second).max() > 10


@pytest.mark.parametrize("subject", ["S1", "S2", "S3"])
@pytest.mark.parametrize("action", ["Walking", "Gestures", "Box"])
def test_every_partition_has_room_for_the_longest(subject, action):
    for split in ("train", "test"):
        assert published_frames(subject, action, 1, split).length >= LONGEST
