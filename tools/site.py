"""A hook of mkdocs.yml: pages link to files of the project that are not part of the site, such as ../pyproject.toml.

The site shows the path of such a file in place of a link. A link to a page or an image of docs/ stays as it is.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(?<!!)\[(?P<label>[^\]]*)\]\((?P<target>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Called by mkdocs with the text of each page."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def without_dead_end(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link["target"]))
        if path.startswith("docs/"):
            return link[0]
        label = link["label"].strip("`")
        return f"`{path}`" if path.endswith(label) else f"{link['label']} (`{path}`)"

    return _LINK.sub(without_dead_end, markdown)
