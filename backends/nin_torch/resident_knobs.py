"""What can be chosen where the images stay on the device; torch is not imported for it."""

from __future__ import annotations

from nin_multi.knobs import Knob


def resident_knobs(device: str) -> tuple[Knob, ...]:
    """Not measured against each other by single steps on one batch, which say nothing of images on the device.

    data: images stay on the device, or come batch by batch. resize: all images once, or each batch. graph: a step is
    captured and replayed, or asked for kernel by kernel. compile: torch.compile's forward and backward pass; "max"
    also tries which kernel is the fastest.
    """
    if not device.startswith("cuda"):
        return (Knob("data", ("fed", "resident"), False), Knob("resize", ("each_step", "once"), False))
    return (
        Knob("data", ("resident", "fed"), False),
        Knob("resize", ("once", "each_step"), False),
        Knob("graph", ("on", "off"), False),
        Knob("compile", ("off", "on", "max"), False),
    )
