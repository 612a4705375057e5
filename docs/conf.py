"""How the documentation site is built: `make docs`. Warnings are errors, and cells are executed."""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# The pages' kernels start with this environment: they import what stands beside the pages, whatever folder they are in.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(DOCS), os.environ.get("PYTHONPATH", "")]))
sys.path.insert(0, str(DOCS))


def digest_of_sources() -> str:
    """What executed cells depend on beside themselves; with another digest nothing of an earlier build is taken."""
    places = ("nin_multi/**/*", "backends/**/*", "docs/*", "docs/*/*")
    kinds, looks = (".py", ".yaml", ".json"), ("conf.py", "site_parts.py")
    found = (path for place in places for path in ROOT.glob(place))
    files = (path for path in found if path.suffix in kinds and path.name not in looks)
    told = hashlib.sha256(os.environ.get("NIN_MULTI_DATA", "").encode())
    for path in sorted(files):
        told.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return told.hexdigest()[:16]


project = "nin_multi"
author = "nin_multi"
project_copyright = "nin_multi, Apache-2.0"
release = installed("nin-multi")
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_copybutton",
    "site_parts",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
nitpicky = True
# Types in signatures are written as in the source; not all of them are on the page.
nitpick_ignore_regex = [("py:(class|exc|obj|data)", ".*")]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS / "_build" / "cells" / digest_of_sources())
nb_execution_excludepatterns = ["frameworks-in-class.ipynb"]  # a lesson of some minutes, for a room: tests run it
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_render_markdown_format = "myst"
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

maximum_signature_line_length = 88
python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
default_role = "code"  # docstrings write `names` as Markdown does

html_theme = "sphinx_book_theme"
html_title = "nin_multi"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_use_index = False
html_show_sourcelink = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # there is a search field in the sidebar
}

copybutton_selector = "div[class*=highlight-]:not(.printed):not(.output) > div.highlight > pre"
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"

linkcheck_timeout = 20
linkcheck_retries = 2
