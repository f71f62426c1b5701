"""House rules that a machine can check: sizes, no floats near money, who commits, every error has an answer."""

import ast
import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import metering
import workers
from metering.api.problems import PROBLEMS
from metering.core.errors import MeteringError
from metering.db.distribution import COLUMNS, PLACEMENTS
from tests.not_over_http import NOT_OVER_HTTP
from tests.order import LONG

ROOT = Path(__file__).parent.parent
PRODUCT = sorted([*ROOT.glob("metering/**/*.py"), *ROOT.glob("workers/**/*.py")])
TESTS = sorted(ROOT.glob("tests/**/*.py"))
# The rules: they import the standard library and each other, and read no clock.
# The rules, as the walls in pyproject.toml name them, and core's modules, which are a package there.
_WALLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
_RULES = next(wall["modules"] for wall in _WALLS if wall["name"].startswith("Rules import"))
PURE = [
    *(each.removeprefix("metering.").replace(".", "/") for each in _RULES if each != "metering.core"),
    *(f"core/{name}" for name in ("money", "period", "dates", "ids", "cursors")),
    "months/statements/usage_statement",
]
# Words and meanings only, which the tests of the exports compare with the specification.
_WITHOUT_RULES = {f"exports/{kind}_columns" for kind in ("charge", "focus", "line")}
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


# These rules hold for hundreds of files, and a test of its own for each file would take longer than the rule.
def test_a_file_is_one_room() -> None:
    lines = {name(path): len(path.read_text().splitlines()) for path in [*PRODUCT, *TESTS]}
    assert {path: count for path, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_a_file_opens_with_its_purpose() -> None:
    openings = {
        name(path): (ast.get_docstring(tree_of(path)) or "").split("\n\n")[0].rstrip()
        for path in [*PRODUCT, *TESTS]
        if path.read_text().strip()
    }
    assert {path: text for path, text in openings.items() if not text.endswith((".", ":", "?", '"'))} == {}


def test_functions_are_small() -> None:
    lines = {
        f"{name(path)}:{function.name}": (function.end_lineno or 0) - function.lineno
        for path in PRODUCT
        for function in functions(tree_of(path))
    }
    assert len(lines) > 1_000
    assert {function: count for function, count in lines.items() if count >= MAX_FUNCTION_LINES} == {}


def test_functions_import_nothing() -> None:
    imports = [
        f"{name(path)}:{node.lineno}"
        for path in PRODUCT
        for function in functions(tree_of(path))
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert imports == []


@pytest.mark.parametrize("folder", ["core", "customers", "prices", "ledger", "corrections", "totals", "months"])
def test_no_float_comes_near_money(folder: str) -> None:
    for path in ROOT.glob(f"metering/{folder}/**/*.py"):
        if path.name == "rendering.py":
            continue  # where things stand on a page
        for node in ast.walk(tree_of(path)):
            assert not (isinstance(node, ast.Name) and node.id == "float"), f"{name(path)}:{node.lineno}"
            is_float = isinstance(node, ast.Constant) and isinstance(node.value, float)
            assert not is_float, f"{name(path)}:{getattr(node, 'lineno', 0)}"


def test_only_the_store_and_the_ingest_writer_commit() -> None:
    commits = re.compile(r"\.(commit|begin|transaction)\(")
    # The benchmarks' floors are what PostgreSQL does without our store.
    allowed = {
        "metering/streams/ingest/lane.py",
        "metering/lab/bench/bare.py",
        "metering/lab/bench/floor.py",
        "metering/lab/bench/finalize.py",
    }
    found = {name(path) for path in PRODUCT if commits.search(path.read_text())}
    assert {path for path in found if "/store" not in path and "/db/" not in path} <= allowed


def test_the_domain_reads_no_clock() -> None:
    for path in (ROOT / f"metering/{pure}.py" for pure in PURE):
        assert not re.search(r"\bnow\(|utcnow|time\.time|monotonic", path.read_text()), name(path)


@pytest.mark.parametrize("module", sorted({*PURE} - _WITHOUT_RULES))
def test_a_pure_module_has_a_test_module_of_its_name_in_the_folder_of_its_room(module: str) -> None:
    path = ROOT / f"metering/{module}.py"
    assert path.is_file()
    assert (ROOT / "tests" / module.split("/")[0] / f"test_{path.stem}.py").is_file()


def test_no_unfinished_work_is_marked_and_no_test_is_switched_off() -> None:
    marker = re.compile("TO" + "DO|FIX" + "ME|XX" + "X|mark.xf" + "ail|NotImplemented" + "Error")
    for path in [*PRODUCT, *TESTS]:
        assert not marker.search(path.read_text()), name(path)


def _all_errors(root: type[MeteringError]) -> Iterator[type[MeteringError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _all_errors(kind)


# These answer for themselves: what gateways embed is no part of the API, and the dashboard answers with pages.
_ELSEWHERE = (
    "metering.answers",
    "metering.dashboard",
    "metering.emitter",
    "metering.gateway",
    "metering.inlets",
    "metering.server.backup",
    "metering.server.embedded",
    "metering.lab.chaos",
    "metering.lab.demo",
    "metering.server.up",
    "metering.lab.bench",
    "metering.cli",
)


def test_every_expected_failure_has_an_http_answer_or_a_reason_not_to() -> None:
    for module in pkgutil.walk_packages(metering.__path__, "metering."):
        if module.name != "metering.inlets.litellm":  # LiteLLM is installed where its proxy runs
            importlib.import_module(module.name)
    served = [kind for kind in _all_errors(MeteringError) if not kind.__module__.startswith(_ELSEWHERE)]
    assert len(served) > 20
    for kind in served:
        assert (kind in PROBLEMS) != (kind in NOT_OVER_HTTP), kind


def test_nothing_names_a_path_of_one_machine() -> None:
    local = re.compile("/wo" + "rk/|/ro" + "ot/|bash_" + "jobs")
    for path in [*PRODUCT, *TESTS, *ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), *ROOT.glob("deploy/**/*")]:
        if path.is_file() and "node_modules" not in path.parts:
            assert not local.search(path.read_text(errors="ignore")), name(path)


def test_the_workers_stay_thin() -> None:
    assert Path(workers.__file__).parent.is_dir()
    for path in ROOT.glob("workers/*.py"):
        assert len(path.read_text().splitlines()) < 150, name(path)


def test_tests_share_helpers_by_modules_of_their_own() -> None:
    """Neither a test module nor a conftest is imported: pytest would load it twice, and fixtures would hide."""
    shared = re.compile(r"^\s*(?:from|import) tests(?:\.\w+)*\.(?:test_\w+|conftest)\b", re.MULTILINE)
    for path in TESTS:
        assert not shared.search(path.read_text()), name(path)


# SQL outside the rooms' `store` and `queries` runs databases, measures them, or belongs to tools.
_SQL_ELSEWHERE = re.compile(r"metering/(db|lab|server/embedded)/")
_SQL = re.compile(
    r"\b(SELECT\s|INSERT INTO\s|UPDATE\s+\w+\s+(AS\s+\w+\s+|\w+\s+)?SET\s|DELETE FROM\s|COPY\s+\w+\s*\()"
)


def _sql_in(path: Path) -> Iterator[str]:
    """Where a file has SQL, as `path:line`."""
    tree = tree_of(path)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose)
    for node in constants:
        if isinstance(node.value, str) and _SQL.search(node.value):
            yield f"{name(path)}:{node.lineno}"


def test_sql_stands_in_store_and_queries_only() -> None:
    rooms_of_sql = re.compile(r"/(store|queries)(\.py|/)")
    without, having = [], []
    for path in PRODUCT:
        if rooms_of_sql.search(name(path)):
            having.append(path)
        elif not _SQL_ELSEWHERE.match(name(path)):
            without.append(path)
    assert [place for path in without for place in _sql_in(path)] == []
    assert [place for path in having for place in _sql_in(path)]


# What runs on plain PostgreSQL only; beside each such statement is the one for Citus.
_LOCKS_OF_PLAIN_POSTGRESQL = {f"metering/streams/store/{module}.py" for module in ("due", "retries", "streams")}
_SPREAD = {table for table, placement in PLACEMENTS if placement in COLUMNS} | {"entries", "newest_bills"}


@pytest.mark.parametrize("path", PRODUCT, ids=name)
def test_rows_of_distributed_tables_are_locked_for_one_customer_only(path: Path) -> None:
    """Citus refuses SELECT ... FOR UPDATE that is not about one customer."""
    if name(path) in _LOCKS_OF_PLAIN_POSTGRESQL:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.JoinedStr | ast.Constant):
            continue
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        sql = " ".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
        if re.search(r"\bFOR (NO KEY )?(UPDATE|SHARE)\b", sql) and "customer_id = :customer_id" not in sql:
            assert not _SPREAD & set(re.findall(r"\b(?:FROM|JOIN|UPDATE)\s+(\w+)", sql)), sql


def test_the_long_tests_that_begin_first_exist() -> None:
    for name in LONG:
        path, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / path).read_text(), name


def test_sql_is_written_in_one_dialect() -> None:
    table_objects = re.compile(
        r"from sqlalchemy[\w.]* import [^\n]*\b(select|insert|update|delete|Table|Column|MetaData)\b"
    )
    # A reader's password must not be a parameter in the server's log; psycopg composes that statement.
    by_driver = {"metering/access/store/readers.py"}
    for path in PRODUCT:
        source = path.read_text()
        assert not table_objects.search(source), name(path)
        in_lab = name(path).startswith("metering/lab/")
        assert "exec_driver_sql" not in source or in_lab or name(path) in by_driver, name(path)
