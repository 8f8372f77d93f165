"""The page of all modules: the first line of each docstring, and which modules of its own package
each imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "shmmap"
ORDER = ("memory", "system", "shard", "values", "operations", "locks", "lifecycle", "copies",
         "tools", "torture", "testing")
HEAD = """# Modules

Every module with the first line of its docstring, written from the sources as the site is built.
The last column has the modules of the same package that it imports;
[the picture](../architecture.md#the-packages) says which packages it may import.
"""


def page() -> str:
    """Write the page."""
    parts = [HEAD, "## The top\n", table(PACKAGE)]
    folders = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
    for name in sorted(folders, key=lambda name: (name not in ORDER, [*ORDER, name].index(name))):
        about = first_line(ast.parse((PACKAGE / name / "__init__.py").read_text()))
        parts += [f"## {name}/\n", f"{about}\n" if about else "", table(PACKAGE / name)]
    return "\n".join(parts)


def table(folder: Path) -> str:
    """Write the table of a package."""
    lines = ["| module | what it is | imports here |", "| --- | --- | --- |"]
    names = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    for name in sorted(names, key=lambda name: name.strip("_")):
        tree = ast.parse((folder / f"{name}.py").read_text())
        about = first_line(tree).replace("|", "\\|")
        used = [f"`{other}`" for other in sorted(names & imports(tree, folder.name) - {name})]
        lines.append(f"| `{name}` | {about} | {', '.join(used)} |")
    return "\n".join(lines) + "\n"


def first_line(tree: ast.Module) -> str:
    """Return the first sentence of a module's docstring."""
    text = (ast.get_docstring(tree) or "").partition("\n\n")[0]
    return re.sub(r"\s+", " ", text)


def imports(tree: ast.Module, package: str) -> set[str]:
    """List the names that a module imports from its own package."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level == 1:
                found |= {node.module.partition(".")[0]} if node.module else {
                    alias.name for alias in node.names}
            elif node.level == 0 and (node.module or "").startswith(f"shmmap.{package}."):
                found.add((node.module or "").split(".")[2])
    return found
