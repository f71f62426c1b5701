"""Constraints that parameters and bodies share. PostgreSQL's text cannot hold NUL, so nothing here may."""

from typing import Annotated

from pydantic import StringConstraints

_NO_NUL = r"^[^\x00]+$"

Id = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_NO_NUL)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=_NO_NUL)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=2_000, pattern=_NO_NUL)]
