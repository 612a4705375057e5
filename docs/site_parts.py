"""A small Sphinx extension: formulas as MathML, links between files as links between pages, Chinese text as Chinese.

MathML needs no script, no font and no address: browsers read it, also from a file and without a network.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.writers.html5 import HTML5Translator

# What a repository's reader follows as a file, a reader of the site finds as a page.
PAGES = {"../backends/README.md": "backends.md"}
NOT_ALWAYS = ("exercises/index", "paper")  # left out of the contents where they are not
CHINESE = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"  # ideographs and their punctuation
BREAK = re.compile(f"(?<=[{CHINESE}])\n(?=[{CHINESE}])")


def write_formula(translator: HTML5Translator, node: nodes.math) -> None:
    """A formula within a line."""
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def write_formula_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on lines of its own, which scrolls where it is wider than the screen."""
    formula = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math notranslate nohighlight" tabindex="0">{formula}</div>\n')
    raise nodes.SkipNode


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
            joined = BREAK.sub("", text)
            if joined.endswith("\n") and _are_chinese(joined[:-1], _beside(text, 1)):
                joined = joined[:-1]
            if joined.startswith("\n") and _are_chinese(_beside(text, -1), joined[1:]):
                joined = joined[1:]
            text.parent.replace(text, nodes.Text(joined))


def _beside(text: nodes.Text, step: int) -> str:
    """What stands before (-1) or after it in its paragraph."""
    place = text.parent.index(text) + step
    return str(text.parent[place].astext()) if 0 <= place < len(text.parent) else ""


def _are_chinese(before: str, after: str) -> bool:
    return bool(re.search(f"[{CHINESE}]$", before) and re.match(f"[{CHINESE}]", after))


def set_language(app: Sphinx, name: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    """Pages under zh/ say that they are Chinese."""
    if name.startswith("zh/"):
        context["language"] = "zh-Hans"


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula_block, None))
    app.add_post_transform(JoinChineseLines)
    app.connect("source-read", link_pages)
    app.connect("html-page-context", set_language)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
