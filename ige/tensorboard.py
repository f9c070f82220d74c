"""The log of a run for TensorBoard, exact across interruptions."""

import pathlib
from typing import Self

import tensorflow as tf


def _keep_until(path: pathlib.Path, step: int) -> None:
    """Takes the events after `step` out of an event file, and a tail that was not fully written."""
    temporary = path.with_name(".trimmed")  # a name that TensorBoard does not read
    dropped = False
    with tf.io.TFRecordWriter(str(temporary)) as writer:
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                if tf.compat.v1.Event.FromString(record).step > step:
                    dropped = True
                else:
                    writer.write(record)
        except tf.errors.DataLossError:
            dropped = True
    if dropped:
        temporary.replace(path)
    else:
        temporary.unlink()


class TensorBoardLog:
    """Scalars and the config of a run.

    Keras's own callback counts calls, not steps, when several steps run per call, and logs steps
    again that a run repeats after it was killed.

    Args:
        folder: where the event files are; None: nothing is logged.
        step: the step that the run goes on from; later events are removed.
    """

    def __init__(self, folder: pathlib.Path | None, step: int):
        if folder is None:
            self._writer = tf.summary.create_noop_writer()
            return
        for path in sorted(folder.glob("events.out.tfevents.*")):
            _keep_until(path, step)
        self._writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def config(self, text: str) -> None:
        """Logs the configuration, at the start of a run."""
        indented = "\n".join(f"    {line}" for line in text.splitlines())
        with self._writer.as_default(0):
            tf.summary.text("config", indented)  # four spaces: verbatim in Markdown

    def scalars(self, prefix: str, figures: dict[str, float], step: int) -> None:
        """Logs figures as `<prefix>/<name>`."""
        with self._writer.as_default(step):
            for name, value in figures.items():
                tf.summary.scalar(f"{prefix}/{name}", value)

    def flush(self) -> None:
        """Writes what is logged to disk."""
        self._writer.flush()
