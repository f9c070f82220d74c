"""The one exception that people are meant to see."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake that its reader can mend: bad input, a bad config, a missing file.

    The message is one line (or a short list) that says what, got, expected and fix. The command
    line prints it without a traceback and exits with status 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the names closest to `name` as a hint for a message; nothing if none is close."""
    close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `known` as a hint for a message: the names closest to `name`, else all of them."""
    known = sorted(known)
    return did_you_mean(name, known) or f"known: {', '.join(known) or 'none'}"


def first_line(error: BaseException) -> str:
    """Returns the first line of what an exception says; its name if it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
