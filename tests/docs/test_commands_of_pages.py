"""The commands and links of docs/: each command is one, with options that it has; each link leads to a heading."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from metering.cli.main import app
from tests.docs.pages import DOCS, ROOT

# Packages of Node that a developer installed have pages of their own.
_DEPLOY = [page for page in ROOT.glob("deploy/**/README.md") if "node_modules" not in page.parts]
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *_DEPLOY])
# Names several commands at once.
WITHOUT_COMMANDS = ROOT / "CHANGELOG.md"
_EXAMPLES = re.compile(r"```sh\n(.*?)```", flags=re.DOTALL)
_INLINE = re.compile(r"`(metering [^`]+)`")
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands(page: str) -> list[str]:
    """The lines that begin with `metering`, in examples and in the text, up to a comment or a pipe."""
    examples = [line for code in _EXAMPLES.findall(page) for line in code.replace("\\\n", " ").splitlines()]
    own = [re.sub(r"^(?:\S*/|\w+=\S* )*metering ", "metering ", line.strip()) for line in examples]
    found = [*(line for line in own if line.startswith("metering ")), *_INLINE.findall(page)]
    return [re.split(r"\s(?:#|\||>|&&)|;", line)[0] for line in found]


def problem(line: str) -> str | None:
    """What is wrong with a command line, whose arguments may be placeholders."""
    command: Any = typer.main.get_group(app)
    words = line.split()[1:]
    while words and hasattr(command, "commands") and not (words[0].startswith(("-", "…")) or words[0].isupper()):
        if words[0] not in command.commands:
            return f"there is no command {words[0]!r}"
        _, command, _ = command.resolve_command(typer.Context(command), [words.pop(0)])
    options = {each for param in command.get_params(typer.Context(command)) for each in param.opts}
    options |= {"--help", "-h", "--install-completion", "--show-completion"}
    for option in re.findall(r"(?<![\w'\"])--[a-z][\w-]+", " ".join(words)):
        if option not in options:
            return f"it has no option {option}"
    return None


@pytest.mark.parametrize("page", [page for page in PAGES if page != WITHOUT_COMMANDS], ids=name)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    wrong = {line: problem(line) for line in commands(page.read_text()) if problem(line) is not None}
    assert wrong == {}


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as GitHub makes them, and those that it sets itself."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    own = set(re.findall(r'<a id="([^"]+)">', page.read_text()))
    return own | {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    wrong = []
    for target, anchor in _LINK.findall(page.read_text()):
        if "://" in target:
            continue
        there = (page.parent / target) if target else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            wrong.append(f"{target}#{anchor}")
    assert wrong == []
