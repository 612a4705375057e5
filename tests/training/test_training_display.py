"""A run on the screen: lines where stderr is a file or a pipe, a bar on a real (pseudo) terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
import threading
import time

import pytest

from nin_multi.training.display import Bars, Lines, Silent, choose_display

EPOCH = r"epoch {}/2: loss \d\.\d{{3}}, train acc [01]\.\d{{3}}, test acc [01]\.\d{{3}}, \d+\.\d images/s"
STEP = r"  step \d+/14: loss \d\.\d{3}, train acc [01]\.\d{3}, \d+\.\d images/s, \d+ s left"


def test_lines_where_stderr_is_no_terminal(make_run, capsys: pytest.CaptureFixture[str]) -> None:
    display = choose_display()
    assert type(display) is Lines
    began = time.monotonic()
    make_run(display=display)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert "\r" not in err
    lines = err.splitlines()
    assert [sum(bool(re.fullmatch(EPOCH.format(n), line)) for line in lines) for n in (1, 2)] == [1, 1]
    steps = [line for line in lines if re.fullmatch(STEP, line)]
    assert 1 <= len(steps) <= 1 + (time.monotonic() - began) / 2
    assert re.fullmatch(EPOCH.format(2), lines[-1])


def test_nothing_where_quiet(make_run, capsys: pytest.CaptureFixture[str]) -> None:
    display = choose_display(quiet=True)
    assert type(display) is Silent
    make_run(display=display)
    assert capsys.readouterr() == ("", "")


class Terminal:
    """sys.stderr as a pseudo-terminal inside `with`; afterwards, everything written to it."""

    def __enter__(self) -> Terminal:
        self._parent, child = pty.openpty()
        self._file = io.TextIOWrapper(os.fdopen(child, "wb", buffering=0), write_through=True)
        self._chunks: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._before, sys.stderr = sys.stderr, self._file
        return self

    def __exit__(self, *_: object) -> None:
        sys.stderr = self._before
        self._file.close()
        self._reader.join(5)
        os.close(self._parent)
        self.text = b"".join(self._chunks).decode()

    def _read(self) -> None:
        try:
            while chunk := os.read(self._parent, 65536):
                self._chunks.append(chunk)
        except OSError:  # Linux says EIO when the other side is closed
            pass


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CI", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")


def test_a_bar_on_a_terminal(make_run, capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as terminal:
        display = choose_display()
        result, _ = make_run(display=display)
    assert type(display) is Bars
    assert result["status"] == "done"
    assert capsys.readouterr() == ("", "")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.text)
    for number in (1, 2):
        assert re.search(EPOCH.format(number), plain)
    assert re.search(r"epoch 2/2 .*14/14 \d+/s loss \d\.\d{3} acc [01]\.\d{3}", plain)
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")  # the cursor is there again


def test_a_bar_takes_no_text_for_markup() -> None:
    with Terminal() as terminal, Bars() as display:
        display.note("run directory /tmp/[red]/[/x]")
    assert "run directory /tmp/[red]/[/x]" in terminal.text


def test_the_cursor_comes_back_after_an_error(make_run) -> None:
    class Breaks(Bars):
        def epoch(self, progress: object) -> None:
            raise RuntimeError("broken")

    with Terminal() as terminal, pytest.raises(RuntimeError, match=r"^broken$"):
        make_run(display=Breaks())
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")
