"""The device of these tests: the one named with --device must be there; else the first GPU, or they skip."""

from __future__ import annotations

import pytest

from nin_multi import registry
from nin_multi.backend import Backend, check_request
from nin_multi.errors import BackendUnavailable


@pytest.fixture(scope="session")
def torch_on_device(request: pytest.FixtureRequest) -> tuple[Backend, str]:
    """PyTorch, and the device to use."""
    named = request.config.getoption("--device")
    backend = registry.load("torch")
    if named:
        check_request(backend, named, "fp32")
        return backend, named
    try:
        devices = [device for device in backend.devices() if device != "cpu"]
    except BackendUnavailable as error:
        pytest.skip(str(error))
    if not devices:
        pytest.skip("no CUDA device")
    return backend, devices[0]
