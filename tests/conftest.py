"""Which backends the conformance tests run for: those named with --backend must run, discovered ones may skip."""

from __future__ import annotations

import signal

import pytest

from nin_multi import registry
from nin_multi.backend import Backend
from nin_multi.errors import BackendUnavailable

# A shell starts background jobs with SIGINT ignored, and so would be every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        default="",
        help="Backends by name, with commas between: these must run. All that can start if none is named.",
    )
    parser.addoption("--device", default="", help="For tests/gpu, such as cuda:0: it must be there and all must run.")
    parser.addoption("--fuzz", type=int, default=40, help="How many random architectures tests/conformance draws.")
    parser.addoption("--long", action="store_true", help="Also what is marked as long: `make test-workers`.")
    parser.addoption("--fuzz-seed", type=int, default=0, help="Which ones.")
    parser.addoption(
        "--zoo",
        default="nin,nin-mnist",
        help="Architectures whose exported forms run by themselves: names with commas between, or all.",
    )


def _named(config: pytest.Config) -> list[str]:
    return [name for name in config.getoption("--backend").split(",") if name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        names = _named(metafunc.config) or registry.available()
        metafunc.parametrize("backend", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> Backend:
    """The backend under test, started."""
    loaded = registry.load(request.param)
    try:
        loaded.version()
    except BackendUnavailable as error:
        if request.param in _named(request.config):
            raise
        pytest.skip(str(error))
    return loaded
