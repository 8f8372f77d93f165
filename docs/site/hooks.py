"""What mkdocs calls while it builds the site: pages that are made, not written.

- benchmarks.md, from the figures in bench/results (see bench/report/site.py);
- design/modules.md, from the first lines of the docstrings (see modules.py);
- CHANGELOG.md, CONTRIBUTING.md and bench/README.md, which stay where readers of the source expect
  them, with their links to files of docs/ mended;
- docstrings of the reference, where a class repeats a method only to type it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

TOP = Path(__file__).resolve().parents[2]
INCLUDED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md",
            "bench/README.md": "bench-method.md"}
METHOD = "How the benchmarks are measured"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Have griffe run the extension below."""
    handlers = config.plugins["mkdocstrings"].config["handlers"]
    handlers["python"]["options"]["extensions"] = [f"{TOP / 'docs/site/inherited.py'}"]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    sys.path.append(str(TOP))  # last: an installed shmmap comes before the sources here
    sys.path.append(str(TOP / "docs" / "site"))
    import modules

    from bench.report import site

    made = {name: mended((TOP / source).read_text(), source) for source, name in INCLUDED.items()}
    made["bench-method.md"] = made["bench-method.md"].replace("# Benchmarks", f"# {METHOD}", 1)
    made["benchmarks.md"] = site.page()
    made["design/modules.md"] = modules.page()
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    for name, path in site.PICTURES.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def mended(text: str, source: str) -> str:
    """Turn links to pages of the site into such; leave only the words of others."""
    places = {**INCLUDED, **{f"docs/{path.relative_to(TOP / 'docs')}":
              str(path.relative_to(TOP / "docs")) for path in (TOP / "docs").rglob("*.md")}}

    def link(match: re.Match[str]) -> str:
        picture, words, target, anchor = match.groups()
        if "://" in target:
            return match[0]
        found = (TOP / source).parent.joinpath(target).resolve()
        place = places.get(str(found.relative_to(TOP))) if found.is_relative_to(TOP) else None
        return f"{picture}[{words}]({place}{anchor or ''})" if place else words

    return LINK.sub(link, text)
