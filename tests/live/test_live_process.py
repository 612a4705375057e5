"""The page and its process: light to import, told apart where the extra is missing, and no reason not to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from live_client import PATIENCE

from nin_multi.errors import UsageError
from nin_multi.live import LivePage

BEGIN = """
    import os, signal, socket, sys, threading
    from nin_multi.live import LivePage

    def begin():
        comparison = {"runs": [{"id": "a", "events": []}], "over": False}
        page = LivePage(lambda comparison, *, events: "page", comparison, port=0)
        page.start()
        browser = socket.create_connection(("127.0.0.1", int(page.address.split(":")[2][:-1])), timeout=60)
        browser.sendall(f"GET /events HTTP/1.1\\r\\nHost: {page.address[7:-1]}\\r\\n\\r\\n".encode())
        found = b""
        while b"snapshot" not in found:
            found += browser.recv(1 << 16)
        return page, browser.detach()  # left open to the very end
"""


def python(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(BEGIN) + textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("page.point('a', {'step': 1})", 0),
        ("page.finish({'runs': []}); page.close(0)", 0),
    ],
)
def test_a_process_ends_with_a_browser_still_there(end: str, status: int) -> None:
    ended = python(f"page, browser = begin()\n{end}\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", "")


def test_an_interrupt_is_the_commands_own() -> None:
    ended = python(
        """
        page, browser = begin()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(60)
        except KeyboardInterrupt:
            page.close(0)
            print("interrupted")
        """
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")
def test_training_goes_first() -> None:
    ended = python(
        """
        page, browser = begin()
        thread = page._thread.native_id
        print(os.getpriority(os.PRIO_PROCESS, thread) - max(10, os.getpriority(os.PRIO_PROCESS, os.getpid())))
        print(os.getpriority(os.PRIO_PROCESS, os.getpid()))
        """
    )
    assert (ended.stdout.split(), ended.stderr) == (["0", str(os.getpriority(os.PRIO_PROCESS, 0))], "")


def test_importing_it_is_light() -> None:
    ended = python("print([name for name in ('starlette', 'uvicorn', 'h11', 'anyio') if name in sys.modules])")
    assert (ended.returncode, ended.stdout) == (0, "[]\n")


@pytest.mark.parametrize(("module", "package"), [("starlette.responses", "starlette"), ("uvicorn", "uvicorn")])
def test_a_missing_extra(
    module: str, package: str, comparison: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"--live: .*{package}.* is not installed.\n.*nin-multi\[live\]") as caught:
        LivePage(lambda comparison, *, events: "", comparison, port=0)
    assert caught.value.exit_status == 2
