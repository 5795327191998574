"""Names the modules that Cython compiles; everything else about the package is in setup.cfg.

SKIP_CYTHON=1 builds none of them, REQUIRE_CYTHON=1 fails where the compiler does, CYTHON_ANNOTATE=1 writes
Cython's HTML pages. Without a working compiler the same sources run as plain Python.
"""

import os
from pathlib import Path

from setuptools import Extension, setup

COMPILED = [
    "zwoole.shared.mask",
    "zwoole.shared.buffers",
    "zwoole.shared.frames",
    "zwoole.shared.pieces",
    "zwoole.shared.protocol",
    "zwoole.shared.wire",
    "zwoole.shared.table",
    "zwoole.shared.progress",
    "zwoole.shared.turns",
    "zwoole.reactor.syscalls",
    "zwoole.reactor.connection",
    "zwoole.reactor.registry",
    "zwoole.reactor.window",
    "zwoole.reactor.worker",
    "zwoole.reactor.loop",
    "zwoole.reactor.parking",
    "zwoole.reactor.router",
    "zwoole.reactor.limits",
    "zwoole.reactor.inbound",
    "zwoole.reactor.outbound",
    "zwoole.workers.frame",
    "zwoole.workers.flusher",
    "zwoole.workers.link",
    "zwoole.workers.commands",
    "zwoole.workers.counts",
    "zwoole.workers.dispatch",
    "zwoole.bench.content",
    "zwoole.bench.tally",
    "zwoole.bench.loadcore",
    "zwoole.bench.pace",
]

DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # types come from the .pxd files alone; annotations are mypy's
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "nonecheck": True,  # None where an object was promised raises, as it does uncompiled, instead of crashing
    "cdivision": True,
}


def extensions() -> list[Extension]:
    """Return the extension modules, or none for a pure Python build."""
    if os.environ.get("SKIP_CYTHON"):
        return []
    sources = {name: "src/" + name.replace(".", "/") + ".py" for name in COMPILED}
    for name, path in sources.items():
        if not Path(path).is_file():
            raise SystemExit(f"setup.py: COMPILED names {name}, but there is no {path}")
    from Cython.Build import cythonize

    modules = cythonize(
        [Extension(name, [path], extra_compile_args=["-O3", "-g0"]) for name, path in sources.items()],
        compiler_directives=DIRECTIVES,
        nthreads=os.cpu_count() or 1,
        annotate=bool(os.environ.get("CYTHON_ANNOTATE")),
    )
    for module in modules:  # cythonize() drops the flag, so it is set on its result
        module.optional = not os.environ.get("REQUIRE_CYTHON")
    return list(modules)


setup(ext_modules=extensions())
