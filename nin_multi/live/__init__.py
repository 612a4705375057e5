"""The page of a comparison while its runs go on: a small web server in this process; not what the page looks like.

Importing this needs no web framework; making a `LivePage` does (the extra "live").
"""

from __future__ import annotations

from nin_multi.live.server import LivePage

__all__ = ["LivePage"]
