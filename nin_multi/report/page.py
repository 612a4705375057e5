"""A comparison as one HTML page with everything in it: it loads nothing, and only its own scripts run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nin_multi.machine import own_version
from nin_multi.report import numbers
from nin_multi.report.data import page_data
from nin_multi.report.embedding import highlighted, picture_address, script_hash, script_json
from nin_multi.report.view import page_view

SCRIPTS = ("theme.js", "plotly-basic.min.js", "page.js")


def render_html(comparison: Mapping[str, Any], *, events: str | None = None) -> str:
    """The page. `events` is the address of the server-sent events of a live page; None for a report to keep."""
    live = events is not None and not comparison["over"]
    scripts = {name: _asset(name) for name in SCRIPTS}
    return (
        _environment()
        .get_template("page.html")
        .render(
            **page_view(comparison, live),
            policy=_policy(scripts.values(), live),
            style=Markup(_asset("page.css")),
            scripts={name: Markup(text) for name, text in scripts.items()},
            data=script_json(page_data(comparison, events)),
            version=own_version(),
        )
    )


def _policy(scripts: Any, live: bool) -> str:
    """Content-Security-Policy: these scripts and no other; a live page may ask its own server."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(map(script_hash, scripts))}",
            "style-src 'unsafe-inline'",
            "img-src data:",
            f"connect-src {chr(39)}{'self' if live else 'none'}{chr(39)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


@cache
def _asset(name: str) -> str:
    return resources.files("nin_multi.report").joinpath("assets").joinpath(name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nin_multi.report"),
        autoescape=True,  # by default Jinja escapes nothing
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        "score",
        "rate",
        "seconds",
        "left",
        "memory",
        "error",
        "count",
        "percent",
        "shape",
        "setting",
        "moment",
    ):
        environment.filters[name] = getattr(numbers, f"show_{name}")
    environment.filters["highlighted"] = highlighted
    environment.filters["picture"] = picture_address
    return environment
