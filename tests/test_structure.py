"""Imports point inwards: server -> handlers, workers -> tracking."""

import ast
from pathlib import Path

import pytest

from tests.running import CHECKOUT

# Library -> where it may be imported, besides server.py.
LIBRARIES = {
    "sqlalchemy": ("tracking/store/engine.py", "tracking/store/"),
    "psycopg2": ("tracking/store/",),
    "kafka": ("workers/",),
    "tornado": ("handlers/", "workers/"),
}
# For the annotation of an engine that is only passed on.
TYPE_ONLY = ("handlers/services.py", "workers/")
PACKAGES = {
    "tracking": ("handlers", "workers", "server"),
    "handlers": ("workers", "server"),
    "workers": ("handlers", "server"),
}
MODULES = [p for name in PACKAGES for p in sorted((CHECKOUT / name).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Top-level names of all imports of a module."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_imports_point_inwards(path: Path) -> None:
    here = path.relative_to(CHECKOUT).as_posix()
    names = imported(path)
    assert not names & set(PACKAGES[here.partition("/")[0]])
    for library, places in LIBRARIES.items():
        if library in names and not here.startswith(places):
            assert library == "sqlalchemy"
            assert here.startswith(TYPE_ONLY)


def test_there_is_no_package_named_like_a_library() -> None:
    assert not (CHECKOUT / "alembic" / "__init__.py").exists()
