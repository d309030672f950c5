"""How the documentation is built: `make docs`. Everything it needs lies in this folder.

The site is served at /help/ under the platform's strict Content-Security-Policy, so no page of it
has an inline script or style, and nothing in it comes from another host.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HERE = Path(__file__).parent

project = "SaaS LiteLLM"
# The changelog supplies the version.
version = release = re.findall(
    r"^## (\S+)", (HERE.parent / "CHANGELOG.md").read_text(), re.MULTILINE
)[0]
extensions = ["myst_parser"]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
nitpicky = True

# Links to a heading work here as they do on a forge.
myst_heading_anchors = 4

html_theme = "furo"
html_title = "SaaS LiteLLM"
html_static_path = ["_static"]
html_css_files = ["colours.css"]
html_favicon = "_static/icon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_use_index = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
# Only where a page needs it, and only when asked: `make docs-links`.
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_anchors = False
linkcheck_ignore = [r"http://localhost", r"http://127\.0\.0\.1"]


def _scrolled_by_keyboard(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """What may be wider than a phone, a table or a program, can be scrolled without a mouse."""
    body = context.get("body", "")
    body = body.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
    context["body"] = body.replace("<pre>", '<pre tabindex="0">')


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _scrolled_by_keyboard)
