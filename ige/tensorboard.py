"""The log of a run for TensorBoard, exact across interruptions."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Self

import tensorflow as tf

from ige.errors import UserError, first_line


def _keep_until(path: pathlib.Path, step: int) -> None:
    """Takes the events after `step` out of an event file, and a tail that was not fully written."""
    temporary = path.with_name(".trimmed")  # a name that TensorBoard does not read
    dropped = False
    try:
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
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _failure_explained() -> Iterator[None]:
    """Turns what TensorFlow raises where it cannot write into one line."""
    try:
        yield
    except tf.errors.OpError as error:
        # "{{function_node ...}} run/events.out.tfevents.1.v2; No space left on device"
        reason = first_line(error).rpartition("}} ")[2]
        raise UserError(
            f"TensorBoard's events cannot be written: {reason}; the checkpoints are intact; mend "
            "that and run the same command again"
        ) from error


class TensorBoardLog:
    """Scalars and the config of a run.

    Keras's own callback counts calls, not steps, when several steps run per call, and logs steps
    again that a run repeats after it was killed.

    Args:
        folder: where the event files are; None: nothing is logged.
        step: the step that the run goes on from; later events are removed.

    Raises:
        UserError: here and in all methods, the disk is full or cannot be written.
    """

    def __init__(self, folder: pathlib.Path | None, step: int):
        if folder is None:
            self._writer = tf.summary.create_noop_writer()
            return
        for path in sorted(folder.glob("events.out.tfevents.*")):
            if step:
                with _failure_explained():
                    _keep_until(path, step)
            else:  # the config, which has no step, is logged again too
                path.unlink()
        with _failure_explained():
            self._writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with _failure_explained():
            self._writer.close()

    def config(self, text: str) -> None:
        """Logs the configuration, at the start of a run."""
        indented = "\n".join(f"    {line}" for line in text.splitlines())
        with _failure_explained(), self._writer.as_default(0):
            tf.summary.text("config", indented)  # four spaces: verbatim in Markdown

    def scalars(self, prefix: str, figures: dict[str, float], step: int) -> None:
        """Logs figures as `<prefix>/<name>`."""
        with _failure_explained(), self._writer.as_default(step):
            for name, value in figures.items():
                tf.summary.scalar(f"{prefix}/{name}", value)

    def flush(self) -> None:
        """Writes what is logged to disk."""
        with _failure_explained():
            self._writer.flush()
