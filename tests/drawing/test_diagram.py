"""Block diagrams: what becomes one box, what is said of it, and that anybody's architecture can be drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from strategies import architectures

from nin_multi import zoo
from nin_multi.architecture_file import load_architecture
from nin_multi.drawing.diagram import MOST, boxes, draw_diagram
from nin_multi.spec import Architecture


def _net(*layers: dict[str, object]) -> Architecture:
    fields = {"name": "net", "input": (1, 32, 32), "layers": [*layers, {"type": "flatten"}]}
    return Architecture.model_validate(fields)


def _conv(channels: int, **more: object) -> dict[str, object]:
    return {"type": "conv2d", "out_channels": channels, "kernel_size": 3, "padding": 1, **more}


RELU = {"type": "relu"}


class TestBoxes:
    def test_the_chapter_s_net(self) -> None:
        found = boxes(load_architecture("nin"))
        assert [box.label for box in found] == [
            "image 1 × 224 × 224",
            "NiN block 11×11, 96, stride 4",
            "3×3 max pool, stride 2",
            "NiN block 5×5, 256",
            "3×3 max pool, stride 2",
            "NiN block 3×3, 384",
            "3×3 max pool, stride 2",
            "dropout 0.5",
            "NiN block 3×3, 10",
            "global average pool",
            "flatten",
        ]
        assert [box.output for box in found[1:3]] == ["96 × 54 × 54", "96 × 26 × 26"]
        assert [box.relu for box in found[:3]] == [False, True, False]
        assert sum(box.parameters for box in found) == 1_992_166

    def test_equal_convolutions_in_a_row_are_one(self) -> None:
        labels = [box.label for box in boxes(load_architecture("vgg11"))]
        assert labels[1:7:2] == ["3×3 conv, 64", "3×3 conv, 128", "2 × (3×3 conv, 256)"]
        assert labels[-5:] == [
            "fully connected, 4096",
            "dropout 0.5",
            "fully connected, 4096",
            "dropout 0.5",
            "fully connected, 10",
        ]
        assert sum(box.parameters for box in boxes(load_architecture("vgg11"))) == load_architecture("vgg11").parameters

    def test_what_differs_stays_apart(self) -> None:
        net = _net(_conv(4), _conv(4), RELU, _conv(4), RELU, _conv(4), RELU, _conv(5), RELU, _conv(5, stride=2), RELU)
        found = [(box.label, box.relu) for box in boxes(net)[1:-1]]
        assert found == [
            ("3×3 conv, 4", False),
            ("3 × (3×3 conv, 4)", True),
            ("3×3 conv, 5", True),
            ("3×3 conv, 5, stride 2", True),
        ]

    def test_without_relus(self) -> None:
        assert [box.label for box in boxes(_net(_conv(4), _conv(4), _conv(4)))][1:] == ["3 × (3×3 conv, 4)", "flatten"]

    def test_a_relu_with_nothing_to_belong_to(self) -> None:
        found = [box.label for box in boxes(_net(RELU, _conv(4), RELU, RELU, {"type": "dropout", "rate": 0.1}, RELU))]
        assert found[1:] == ["relu", "3×3 conv, 4", "relu", "dropout 0.1", "relu", "flatten"]

    def test_rectangles(self) -> None:
        pool = {"type": "avg_pool2d", "kernel_size": [3, 2], "stride": [2, 3]}
        found = [box.label for box in boxes(_net(_conv(4, kernel_size=[3, 5]), pool))]
        assert found[1:3] == ["3×5 conv, 4", "3×2 average pool, stride 2×3"]

    def test_widths_of_blocks(self) -> None:
        block = {"type": "nin_block", "kernel_size": 5}
        net = _net(
            {**block, "out_channels": 8, "mlp_channels": [6, 4]},
            {**block, "out_channels": 4, "mlp_channels": [4]},
            {**block, "out_channels": 7, "mlp_channels": [], "final_relu": False},
        )
        found = boxes(net)[1:4]
        assert [box.label for box in found] == ["NiN block 5×5, 8 → 6 → 4", "NiN block 5×5, 4", "NiN block 5×5, 7"]
        assert [box.relu for box in found] == [True, True, False]

    def test_units_norms_and_maxout(self) -> None:
        kernels = {"type": "sk_block", "out_channels": 6, "kernel_sizes": [3, 5, 7], "stride": 2}
        norm, maxout = {"type": "local_response_norm", "size": 3}, {"type": "maxout", "pieces": 2}
        found = boxes(_net(_conv(4), RELU, norm, {"type": "se_block"}, kernels, maxout))[1:-1]
        assert [(box.label, box.relu) for box in found] == [
            ("3×3 conv, 4", True),
            ("norm over 3 channels", False),
            ("squeeze and excitation, 1/16", False),
            ("3×3 or 5×5 or 7×7 conv, 6, stride 2", True),
            ("maxout of 2", False),
        ]
        assert found[3].parameters == 4 * 6 * 83 + 18 + (6 * 32 + 32) + 3 * (32 * 6 + 6)

    def test_of_too_many_the_middle_is_left_out(self) -> None:
        layers = [layer for number in range(100) for layer in (_conv(4 + number % 2), RELU)]
        net = _net(*layers)
        found = boxes(net)
        assert len(found) == MOST + 1
        assert found[MOST // 2].label == f"... {102 - MOST} more ..."
        assert sum(box.parameters for box in found) == net.parameters


class TestDrawn:
    def test_side_by_side(self, words) -> None:
        names = ("vgg11", "alexnet", "nin")
        said = words(draw_diagram([load_architecture(name) for name in names]))
        assert [word for word in said if word in names] == list(names)
        assert "1.99 M parameters, 762 M multiply-adds" in said
        assert [word for word in said if word.endswith(("conv, c", "k×k, c"))] == [
            "k×k conv, c",
            "1×1 conv, c",
            "1×1 conv, c",
            "NiN block k×k, c",
        ]

    def test_blocks_whose_widths_differ_are_opened_with_letters(self, words) -> None:
        said = words(draw_diagram([load_architecture("nin-mnist")]))
        assert "NiN block k×k, a → b → c" in said
        assert [word for word in said if word.startswith(("k×k conv", "1×1 conv"))] == [
            "k×k conv, a",
            "1×1 conv, b",
            "1×1 conv, c",
        ]

    def test_without_blocks_none_is_opened(self, words) -> None:
        assert not [word for word in words(draw_diagram([load_architecture("alexnet")])) if "NiN block" in word]

    def test_equal_nets_give_equal_bytes(self) -> None:
        nets = [load_architecture("nin"), load_architecture("alexnet")]
        assert draw_diagram(nets) == draw_diagram(nets)

    @pytest.mark.parametrize("name", zoo.names())
    def test_the_zoo(self, name: str, words) -> None:
        assert name in words(draw_diagram([load_architecture(name)]))

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(architecture=architectures())
    def test_anybody_s(self, architecture: Architecture) -> None:
        ET.fromstring(draw_diagram([architecture]))
        assert sum(box.parameters for box in boxes(architecture)) == architecture.parameters
