"""A small Sphinx extension: formulas as MathML, links between files as links between pages, Chinese text as Chinese.

MathML needs no script, no font and no address: browsers read it, also from a file and without a network.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.osutil import relative_uri
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)
# What a repository's reader follows as a file, a reader of the site finds as a page.
PAGES = {"../backends/README.md": "backends.md"}
NOT_ALWAYS = ("exercises/index", "paper")  # left out of the contents where they are not
CHINESE = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"  # ideographs and their punctuation
BREAK = re.compile(f"(?<=[{CHINESE}])\n(?=[{CHINESE}])")


def write_formula(translator: HTML5Translator, node: nodes.math) -> None:
    """A formula within a line."""
    translator.body.append(_mathml(node))
    raise nodes.SkipNode


def write_formula_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on lines of its own, which scrolls where it is wider than the screen."""
    formula = _mathml(node, as_block=True)
    translator.body.append(f'<div class="math notranslate nohighlight" tabindex="0">{formula}</div>\n')
    raise nodes.SkipNode


def _mathml(node: nodes.Element, **kind: bool) -> str:
    try:
        return str(tex2mathml(node.astext(), **kind))
    except MathError as error:
        logger.warning("formula not understood: %s: %s", error, node.astext(), location=node)
        return ""


def link_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """Links to files that stand outside of docs/, but are pages here."""
    for file, page in PAGES.items():
        source[0] = source[0].replace(f"]({file}", f"]({page}")
    for page in NOT_ALWAYS if name == "index" else ():
        if page not in app.project.docnames:
            source[0] = source[0].replace(f"\n{page}\n", "\n")


class JoinChineseLines(SphinxPostTransform):
    """A line's end between two Chinese characters is no space: that is for languages that have spaces."""

    default_priority = 900

    def run(self, **kwargs: Any) -> None:
        for text in list(self.document.findall(nodes.Text)):
            if "\n" not in text or isinstance(text.parent, nodes.FixedTextElement):
                continue
            before, after = _beside(text, -1)[-1:], _beside(text, 1)[:1]
            joined = BREAK.sub("", before + text + after)
            text.parent.replace(text, nodes.Text(joined[len(before) : len(joined) - len(after)]))


def _beside(text: nodes.Text, step: int) -> str:
    """What stands before (-1) or after it in its paragraph."""
    place = text.parent.index(text) + step
    return str(text.parent[place].astext()) if 0 <= place < len(text.parent) else ""


def write_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str] | None:
    """Types as the source has them: evaluated, `Params` would fill a line. Of protocols and models, none."""
    if what not in ("function", "method", "class"):
        return None
    if hasattr(obj, "model_fields") or getattr(obj, "_is_protocol", False):
        return "", ""
    found = inspect.signature(obj)
    parameters = [each.replace(annotation=_as_written(each.annotation)) for each in found.parameters.values()]
    shown = found.replace(parameters=parameters[what == "method" :], return_annotation=inspect.Signature.empty)
    is_said = what != "class" and found.return_annotation is not inspect.Signature.empty
    return str(shown), str(found.return_annotation) if is_said else ""


class _AsWritten(str):
    """An annotation's text, which `inspect` would put in quotes."""

    def __repr__(self) -> str:
        return str(self)


def _as_written(annotation: Any) -> Any:
    return _AsWritten(annotation) if isinstance(annotation, str) else annotation


def open_pages(app: Sphinx, tree: nodes.document, name: str) -> None:
    """A link to a page among the static files opens it; Sphinx would have it downloaded."""
    for node in list(tree.findall(addnodes.download_reference)):
        if node["reftarget"].startswith("_static/") and node["reftarget"].endswith(".html"):
            address = relative_uri(f"{name}.html", node["reftarget"])
            node.replace_self(nodes.reference("", "", *node.children, refuri=address, internal=True))


def set_language(app: Sphinx, name: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    """Pages under zh/ say that they are Chinese."""
    if name.startswith("zh/"):
        context["language"] = "zh-Hans"


def name_toggles(app: Sphinx, name: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    """The theme's buttons that open a branch of the contents have a picture alone; who cannot see it hears a name."""
    generate = context.get("generate_toctree_html")
    if generate is not None:

        def generate_named(*arguments: Any, **settings: Any) -> str:
            return str(generate(*arguments, **settings)).replace("<summary>", '<summary aria-label="Pages in it">')

        context["generate_toctree_html"] = generate_named


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula_block, None))
    app.add_post_transform(JoinChineseLines)
    app.connect("source-read", link_pages)
    app.connect("doctree-resolved", open_pages)
    app.connect("autodoc-process-signature", write_signature)
    app.connect("html-page-context", set_language)
    app.connect("html-page-context", name_toggles, priority=900)  # after the theme's own
    return {"parallel_read_safe": True, "parallel_write_safe": True}
