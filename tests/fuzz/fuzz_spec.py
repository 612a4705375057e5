"""Architecture files: YAML text."""

from __future__ import annotations

import yaml
from fuzz_harness import FRAGMENTS, Parser, damaged, damaged_json, working_folder
from strategies import architectures

from nin_multi import zoo
from nin_multi.architecture_file import format_architecture, parse_architecture, read_architecture
from nin_multi.errors import SpecError
from nin_multi.limits import check_size

SEEDS = [zoo.path(name).read_bytes() for name in zoo.names()]
PLAIN = [yaml.safe_load(seed) for seed in SEEDS]
TOKENS = [
    *(
        b"&a ",
        b"*a",
        b"!!python/object/apply:os.system ",
        b"!!binary ",
        b"!!set ",
        b"!t ",
        b"<<: ",
        b"? ",
        b": ",
        b"- ",
    ),
    *(
        b"---\n",
        b"...\n",
        b"%YAML 99.9\n",
        b"%TAG ! x\n",
        b"|\n",
        b">-\n",
        b"\t",
        b"\r",
        b"\xe2\x80\xa8",
        b"\xef\xbb\xbf",
    ),
    *(b'"\\uD800"', b'"\\U00110000"', b"[" * 50, b"{a: " * 30, b"- " * 50, b"#", b"'", b'"', b"\xff\xfe", b"\x00"),
    *(b"1" + b":59" * 400, b"1" + b":1" * 400 + b".5", b"0x" + b"f" * 900, b"0b1", b"0o9", b"1_000", b".nan", b"-.inf"),
    *(b"2020-13-45", b"0001-01-01T00:00:00+10:00", b"=", b"~", b"yes", b"1e400", b"a" * 2000, b"name: x\n", b"layers:"),
    *(b"{type: nin_block, out_channels: 1000000000, kernel_size: 1, mlp_channels: [" + b"1," * 6000 + b"]}\n",),
    *(
        b"{type: sk_block, out_channels: 1000000000, kernel_sizes: [" + b"1," * 6000 + b"]}\n",
        b"{type: maxout, pieces: 2}",
    ),
    *(b"{type: local_response_norm, size: 2147483647, k: 1e-300}\n", b"{type: se_block, reduction: 2147483647}\n"),
    *(fragment for fragment in FRAGMENTS if len(fragment) < 1000),
]
FILE = working_folder() / "net.yaml"


def parse(data: bytes) -> str:
    FILE.write_bytes(data)
    architecture = read_architecture(FILE)
    assert parse_architecture(format_architecture(architecture)) == architecture
    assert architecture.multiply_adds >= 0
    try:
        check_size(architecture)
    except SpecError:
        return "too large"
    return "accepted"


PARSERS = [
    Parser(
        "spec",
        parse,
        (SpecError,),
        SEEDS,
        damaged(SEEDS, TOKENS)
        | damaged_json(PLAIN)
        | architectures().map(lambda net: format_architecture(net).encode()),
        TOKENS,
    )
]
