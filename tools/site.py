"""What mkdocs is told by mkdocs.yml and cannot say itself: where the pages lie.

The site has the layout of the repository. A link that works where the code is read works on the site, and one that
leads to a file which is no page (a test, a script) is turned into plain text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SINGLE = ("README.md", "CHANGELOG.md", "saelens_data/assets/minilm-8k/README.md")
FOLDERS = ("docs", "recipes", "datasets")
KINDS = {".md", ".svg", ".png"}
#: Tables that commands print are 110 characters wide; the theme's page is too narrow for them.
WIDE = "<style>.md-grid {max-width: 78rem}</style>"
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(?:#[^)]*)?\)")


def pages() -> list[str]:
    """Every page and picture of the site, relative to the repository."""
    inside = [path for name in FOLDERS for path in sorted((ROOT / name).rglob("*")) if path.suffix in KINDS]
    return [*SINGLE, *(path.relative_to(ROOT).as_posix() for path in inside)]


def recipes() -> list[str]:
    """The pages of recipes/ in the order in which its index names them, which comes first."""
    index = ROOT / "recipes" / "README.md"
    named = [f"recipes/{name}" for name in re.findall(r"\]\((\w+\.md)\)", index.read_text(encoding="utf-8"))]
    return ["recipes/README.md", *dict.fromkeys(named)]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the parts of the menu that hold one page for each file of a folder."""
    menus: dict[str, list[str]] = {
        "How-to": recipes(),
        "Data": [name for name in pages() if name.startswith("datasets/") and name.endswith(".md")],
    }
    menu: list[dict[str, Any]] = config.nav or []
    for entry in menu:
        for title in menus.keys() & entry.keys():
            entry[title] = menus[title]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the repository's pages in the place of what mkdocs found under docs/."""
    theme = [file for file in files if not (file.abs_src_path or "").startswith(config.docs_dir)]
    own = [File.generated(config, name, abs_src_path=str(ROOT / name)) for name in pages()]
    return Files([*theme, *own])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Keep the words of a link to a file of the code, which the site does not have; what is missing stays an error."""

    def plain(link: re.Match[str]) -> str:
        words, target = link.groups()
        place = ROOT / Path(page.file.src_uri).parent / target
        return words if "://" not in target and place.exists() and place.suffix not in KINDS else link.group(0)

    return _LINK.sub(plain, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Give the page room for a table of a command."""
    return output.replace("</head>", f"{WIDE}</head>", 1)
