"""What a file format has to do to be written a few rows at a time."""

from collections.abc import Sequence
from typing import Protocol

from metering.core.errors import MeteringError
from metering.exports.columns import Row


class UnrepresentableError(MeteringError):
    """A value that the file's format cannot hold exactly; nothing is rounded, so there is no file."""


class ExportFile(Protocol):
    """A file that is being written. The bytes of its calls, one after another, are the file."""

    def head(self) -> bytes:
        """What comes before the first row."""

    def rows(self, rows: Sequence[Row]) -> bytes:
        """These rows; a format may keep some back until there are more.

        Raises:
            UnrepresentableError: naming the column.
        """

    def end(self) -> bytes:
        """What is left; without it the file is not whole."""
