import toy


class Counting(toy.LineProblem):
    """Notes what is loaded, and that the data was built before."""

    def __init__(self):
        super().__init__(validation=True)
        self.loaded = []

    def load_arrays(self, split):
        assert self.dataset.prepared
        self.loaded.append(split)
        return super().load_arrays(split)


def test_arrays_are_loaded_once_per_split_and_when_they_are_needed():
    problem = Counting()
    assert problem.provenance == toy.Builder.provenance
    assert problem.loaded == []
    for _ in range(2):
        assert problem.examples_per_epoch("train") == 64
        problem.get_training_feed(8, 8, seed=0, start_step=0, steps_per_chunk=8)
    assert problem.loaded == ["train"]
    for _ in range(2):
        problem.get_dataset("test", 8)
        assert problem.examples_per_epoch("test") == 10
    assert problem.loaded == ["train", "test"]
