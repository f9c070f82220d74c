import numpy as np
import pytest

from ige.data import batches

NUM = 23


def _arrays():
    rows = np.arange(NUM)
    return {"x": rows[:, None] * np.array([1, 10])}, -rows


def _labels(dataset, count):
    return [labels.numpy() for _, labels in dataset.take(count)]


def _shuffled(start_step=0, seed=0, steps_per_chunk=3):
    """Returns the batches; with 4 steps per epoch, chunks of 3 span epochs."""
    feed = batches.shuffled_feed(_arrays(), NUM, 5, 4, seed, start_step, steps_per_chunk)
    return feed.chunks.unbatch().map(feed.fetch)


def test_rows_of_inputs_and_labels_stay_together():
    for inputs, labels in _shuffled().take(8):
        np.testing.assert_array_equal(inputs["x"], -labels.numpy()[:, None] * [1, 10])


def test_an_epoch_has_every_example_at_most_once():
    for epoch in np.reshape(_labels(_shuffled(), 12), (3, 20)):
        assert len(set(epoch)) == 20


def test_epochs_and_seeds_differ_in_order():
    first, second = np.reshape(_labels(_shuffled(), 8), (2, 20))
    other = np.concatenate(_labels(_shuffled(seed=1), 4))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, np.sort(first)[::-1])


@pytest.mark.parametrize("start", [1, 4, 6])
def test_starting_later_gives_the_same_batches(start):
    np.testing.assert_array_equal(
        _labels(_shuffled(start), 5), _labels(_shuffled(), start + 5)[start:]
    )


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_the_size_of_chunks_does_not_matter(steps):
    feed = batches.shuffled_feed(_arrays(), NUM, 5, 4, 0, 0, steps)
    assert feed.chunks.element_spec.shape == (steps, 5)
    np.testing.assert_array_equal(
        _labels(_shuffled(steps_per_chunk=steps), 12), _labels(_shuffled(), 12)
    )


def test_all_examples_are_seen_over_epochs():
    assert set(np.concatenate(_labels(_shuffled(), 40))) == set(-np.arange(NUM))


def test_ordered_batches_have_everything_once_in_order():
    got = _labels(batches.ordered_batches(_arrays(), NUM, 5), 10)
    assert [len(batch) for batch in got] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate(got), -np.arange(NUM))
