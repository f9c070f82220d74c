"""One line about a damaged file, whatever the parser that stumbled over it raised."""

import contextlib
import csv
import pickle
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from xml.etree.ElementTree import ParseError

from ige.errors import UserError

# What h5py, csv, zipfile, tarfile, pickle, the XML parser and NumPy (its headers are Python) raise
# on a damaged file. Damaged sizes ask for more memory than there is.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    pickle.UnpicklingError,
    csv.Error,
    zipfile.BadZipFile,
    tarfile.TarError,
    ParseError,
    SyntaxError,
    tokenize.TokenError,
)
_LONGEST = 200


def one_line(text: object) -> str:
    """Returns what `text` says in one printable line that is not too long to read."""
    line = " ".join(str(text).split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


@contextlib.contextmanager
def reading(origin: str) -> Iterator[None]:
    """Turns what a parser raises inside the block into one line about `origin`.

    Raises:
        UserError: the block failed on a damaged file.
    """
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        reason = one_line(error) or type(error).__name__
        raise UserError(f"{origin}: cannot be read: {reason}; get the file again") from error
