"""What all tables are made of: one MetaData, and the kinds of column that recur."""

from sqlalchemy import Column, DateTime, MetaData, Text

metadata = MetaData()


def moment_column(name: str, *, nullable: bool = False, primary_key: bool = False) -> Column[object]:
    """A moment, with its zone."""
    return Column(name, DateTime(timezone=True), nullable=nullable, primary_key=primary_key)


def text_column(name: str, *, nullable: bool = False, primary_key: bool = False) -> Column[str]:
    """A text, as long as it may be."""
    return Column(name, Text, nullable=nullable, primary_key=primary_key)
