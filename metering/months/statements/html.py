"""A usage statement as a page: one file, with its style in it, fit for print and for a phone."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from metering.months.statements.usage_statement import UsageStatement

_environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_template = _environment.from_string(files("metering.months.statements").joinpath("statement.html.j2").read_text())


def statement_html(statement: UsageStatement) -> str:
    """The page. Whatever names hold is text in it, never markup."""
    return _template.render(statement=statement)
