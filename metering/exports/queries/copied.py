"""Values as texts in the lines that PostgreSQL's COPY writes."""

from metering.exports.columns import Kind


def as_copied(value: str, kind: Kind) -> str:
    """An expression for the text of a value, given as an expression of SQL; `ExportFile` says how it looks.

    >>> as_copied("usd_cents", Kind.NUMBER)
    'trim_scale(usd_cents)'
    """
    match kind:
        case Kind.NUMBER:
            return f"trim_scale({value})"
        case Kind.MOMENT:
            return f"replace(CAST({value} AT TIME ZONE 'UTC' AS text), ' ', 'T') || 'Z'"
        case Kind.FLAG:
            return f"CAST({value} AS text)"
        case Kind.TEXT | Kind.COUNT | Kind.JSON:
            return value
