"""Reads what a source file imports, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def imported_modules(path: Path) -> Iterator[str]:
    """Dotted names of all absolute imports of a file, in functions, for types only and by `import_module("...")` too.

    `from a import b` gives both `a` and `a.b`, as b may be a module. Names that are computed, such as
    `import_module(f"a.{name}")`, are not seen.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (
                argument.value
                for argument in node.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )


def imported_names(path: Path) -> set[str]:
    """Top-level names of everything that a file imports."""
    return {module.partition(".")[0] for module in imported_modules(path)}


def import_graph(source: Path) -> dict[str, set[str]]:
    """Module -> the modules of the same package that its file imports; `source` is the package's folder."""
    names = {}
    for path in source.rglob("*.py"):
        parts = [source.name, *path.relative_to(source).with_suffix("").parts]
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for name, path in names.items():
        graph[name] = {module for module in imported_modules(path) if module in names} - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another, directly or by way of others (strongly connected components)."""

    def reached(start: str) -> set[str]:
        found, pending = set(), [start]
        while pending:
            for module in graph[pending.pop()] - found:
                found.add(module)
                pending.append(module)
        return found

    reach = {name: reached(name) for name in graph}
    groups = {frozenset({b for b in reach[a] if a in reach[b]}) for a in graph if a in reach[a]}
    return sorted(sorted(group) for group in groups)
