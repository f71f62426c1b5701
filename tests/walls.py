"""A contract for import-linter: modules that may import the standard library, each other and what is listed."""

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class OnlyImportsContract(Contract):
    """An allow-list of imports.

    `modules` are checked, with their descendants. `may_import` names modules and packages of ours, with their
    descendants, and other packages by their top-level name.
    """

    type_name = "only_imports"

    modules = fields.ListField(subfield=fields.StringField())
    may_import = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        del verbose
        modules: list[str] = self.modules  # type: ignore[assignment]
        may_import: list[str] = [*modules, *(self.may_import or [])]  # type: ignore[misc]
        unknown = [name for name in modules if name not in graph.modules]
        forbidden = [
            (importer, imported)
            for importer in sorted(graph.modules)
            if _within(importer, modules)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if imported.split(".")[0] not in sys.stdlib_module_names and not _within(imported, may_import)
        ]
        return ContractCheck(
            kept=not (unknown or forbidden), metadata={"unknown": unknown, "forbidden": forbidden}
        )

    def render_broken_contract(self, check: ContractCheck) -> None:
        for name in check.metadata["unknown"]:
            output.print_error(f"There is no module {name}.")
        for importer, imported in check.metadata["forbidden"]:
            output.print_error(f"{importer} may not import {imported}.")


def _within(name: str, packages: list[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
