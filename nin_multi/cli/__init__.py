"""The command line: one module per command; what a command does is defined elsewhere.

Nothing heavy is imported here or at the top of a command's module: `--help` has to answer at once.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import typer

from nin_multi.cli import (
    backends,
    bench,
    compare,
    convert,
    doctor,
    evaluate,
    export,
    pictures,
    predict,
    report,
    shapes,
    summary,
    sweep,
    train,
    verify,
)
from nin_multi.training.interrupt import answered

app = typer.Typer(
    name="nin_multi",
    help="One Network in Network, compiled into PyTorch, MindSpore and MXNet Gluon: is it really the same network?",
    epilog="Every command takes --json, and --debug for a traceback. "
    "Exit status: 0 done and agreed, 1 the thing checked does not hold, 2 bad input, "
    "3 a named backend or device cannot start, or died, 130/143/129 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("backends")(backends.backends)
app.command("doctor")(doctor.doctor)
app.command("shapes")(shapes.shapes)
app.command("summary")(summary.summary)
app.command("verify")(verify.verify)
app.command("train")(train.train)
app.command("compare")(compare.compare)
app.command("sweep")(sweep.sweep)
app.command("report")(report.report)
app.command("bench")(bench.bench)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("pictures")(pictures.pictures)
app.command("convert")(convert.convert)
app.command("export")(export.export)


def main() -> None:
    """Run a command; every expected error becomes one or two lines and an exit status."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    before = {number: signal.signal(number, _leave) for number in answered()}
    try:
        status = app(arguments or ["--help"], prog_name="nin_multi", standalone_mode=False)
    except SystemExit as left:
        status = _failed("interrupted", left.code, "Interrupted") if left.code in (130, 143, 129) else left.code
    except Exception as error:
        if debug or not (expected := _expected(error)):
            raise
        status = _failed(*expected, type(error).__name__)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.exit(status if isinstance(status, int) else 0)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """All of them alike: whatever is under way gets to clean up, and children are ended."""
    raise SystemExit(128 + number)


def _expected(error: Exception) -> tuple[str, int] | None:
    """Message and exit status of an error that a user can bring about; None for one of our own making."""
    from nin_multi.errors import NinMultiError

    if isinstance(error, NinMultiError):
        return str(error), error.exit_status
    if isinstance(error, OSError) and error.filename:  # a path too long, or one we may not look at
        return f"{error.filename}: {error.strerror}", 2
    if isinstance(error, MemoryError):
        asked = (str(error).splitlines() or ["Python says no more"])[0]
        return f"out of memory: {asked}\nA smaller --arch, --input or --batch-size needs less.", 2
    if hasattr(error, "format_message"):  # the command line's own errors: an unknown option, a missing value
        return f"{' '.join(error.format_message().splitlines())}\nSee nin_multi --help.", 2
    return None


def _failed(message: str, status: Any, kind: str) -> Any:
    from nin_multi.cli.common import note, print_json

    note(f"error: {message}")
    if "--json" in sys.argv:
        print_json({"error": {"type": kind, "message": message, "exit_status": status}})
    return status
