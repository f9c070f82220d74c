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


@pytest.mark.parametrize("start_step", [0, 7])
def test_an_epoch_of_more_steps_goes_through_the_examples_again(start_step):
    """And is the same batches, however many epochs they are cut into."""
    feeds = [
        batches.shuffled_feed(_arrays(), NUM, 5, steps, 0, start_step, 3) for steps in (4, 9, 100)
    ]
    once, *more = (np.concatenate(_labels(f.chunks.unbatch().map(f.fetch), 20)) for f in feeds)
    for labels in more:
        np.testing.assert_array_equal(labels, once)


def test_short_epochs_see_other_examples_every_time():
    feed = batches.shuffled_feed(_arrays(), NUM, 5, 1, 0, 0, 3)
    epochs = _labels(feed.chunks.unbatch().map(feed.fetch), 30)
    assert {len(set(epoch)) for epoch in epochs} == {5}
    assert set(np.concatenate(epochs)) == set(-np.arange(NUM))


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


def _orders(seed, epochs, count=64):
    """Returns the orders (epochs, count) of as many examples, an epoch per chunk row."""
    feed = batches.shuffled_feed(np.arange(count), count, count, 1, seed, 0, epochs)
    return next(iter(feed.chunks)).numpy()


def test_every_example_is_anywhere_as_often():
    """Chi squared of the table place x example, per degree of freedom: 1 +- 0.02 for chance."""
    orders = _orders(0, 1600)
    table = np.zeros((64, 64))
    np.add.at(table, (np.arange(64), orders), 1)
    assert np.sum((table - 25) ** 2 / 25) / 63**2 == pytest.approx(1, abs=0.1)


def test_orders_hardly_repeat():
    """For so few examples the shuffle has some ten million orders only."""
    orders = np.concatenate([_orders(seed, 1000) for seed in (0, 256)])
    assert len({tuple(order) for order in orders}) >= 1995


def test_neighbours_part_with_the_next_epoch():
    """Chance has 5 % of the neighbours (sorted by their next batch) in one batch again."""
    feed = batches.shuffled_feed(np.arange(40000), 40000, 64, 625, 0, 0, 1250)
    batch_of = np.empty((2, 40000), int)
    for epoch, rows in enumerate(np.split(next(iter(feed.chunks)).numpy(), 2)):
        batch_of[epoch, rows] = np.arange(625)[:, None]
    first = np.argsort(batch_of[0], kind="stable").reshape(625, 64)
    together = batch_of[1][first]
    again = np.mean(np.diff(np.sort(together, axis=1), axis=1) == 0)
    assert again == pytest.approx(0.05, abs=0.01)


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
