"""A comparison for people: one page that needs no network, Markdown, CSV; not how runs are made or read."""

from nin_multi.report.page import render_html
from nin_multi.report.plain import render_csv, render_curves, render_markdown
from nin_multi.report.stored import write_report

__all__ = ["render_csv", "render_curves", "render_html", "render_markdown", "write_report"]
