"""python -m tests.fuzz.fuzzer TARGET OPTION...: one target under atheris, with libFuzzer's options.

Coverage of Python lines guides it, which compiled modules do not have.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["zwoole"]):
    from tests.fuzz.targets import TARGETS
    from zwoole.shared.websocket.mask import COMPILED

if COMPILED:
    sys.exit("a compiled build cannot be fuzzed: set PYTHONPATH=src")

name, *options = sys.argv[1:]
atheris.Setup([sys.argv[0], *options], TARGETS[name])
atheris.Fuzz()
