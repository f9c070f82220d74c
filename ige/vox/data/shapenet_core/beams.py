"""The build of `shapenet_core` on Apache Beam, for many machines; needs the extra `beam`."""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam

from ige.vox.data import shapes
from ige.vox.data.shapenet_core.layouts import Layout, Record
from ige.vox.observations import Recipe, Refusal, observe

_REFUSED = "refused"


class _Build(beam.DoFn):
    """Makes an example of a model, or says why there is none."""

    def __init__(self, source: Layout, recipe: Recipe):
        self._source = source
        self._recipe = recipe

    def process(self, record: Record) -> Iterator[Any]:
        made = observe(self._source.read(record), self._recipe)
        if isinstance(made, Refusal):
            line = json.dumps([made.reason, f"{record.synset}/{record.model}: {made.text}"])
            yield beam.pvalue.TaggedOutput(_REFUSED, line)
        else:
            yield shapes.observed(record.synset, record.model, made)

    def teardown(self) -> None:
        self._source.close()


class Examples(beam.PTransform):
    """The examples of a split; a file gets a line for every refused model."""

    def __init__(
        self, source: Layout, records: Sequence[Record], recipe: Recipe, refused: pathlib.Path
    ):
        super().__init__()
        self._build = _Build(source, recipe)
        self._records = records
        self._refused = refused

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Returns (key, example) of every model that can be used."""
        built = (
            pipeline
            | beam.Create(self._records)
            | beam.Reshuffle()
            | beam.ParDo(self._build).with_outputs(_REFUSED, main="examples")
        )
        _ = built[_REFUSED] | beam.io.WriteToText(str(self._refused), shard_name_template="")
        return built.examples
