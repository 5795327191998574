"""Names the modules that Cython compiles; everything else about the package is in setup.cfg.

SKIP_CYTHON=1 builds none of them, REQUIRE_CYTHON=1 fails where the compiler does, CYTHON_ANNOTATE=1 writes
Cython's HTML pages. Without a working compiler the same sources run as plain Python.
"""

import os
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build

COMPILED = [
    "zwoole.shared.websocket.mask",
    "zwoole.shared.wire.buffers",
    "zwoole.shared.websocket.frames",
    "zwoole.shared.websocket.partial_message",
    "zwoole.shared.websocket.protocol",
    "zwoole.shared.websocket.traced_protocol",
    "zwoole.shared.wire.payload_ring",
    "zwoole.shared.wire.batches",
    "zwoole.shared.process.syscalls",
    "zwoole.shared.wire.zmtp",
    "zwoole.shared.wire.zmtp_socket",
    "zwoole.shared.request",
    "zwoole.shared.memory.connection_table",
    "zwoole.shared.memory.progress_map",
    "zwoole.shared.memory.turn_counter",
    "zwoole.reactor.core.transport",
    "zwoole.reactor.core.output",
    "zwoole.reactor.core.connection",
    "zwoole.reactor.core.registry",
    "zwoole.reactor.core.window",
    "zwoole.reactor.core.worker_link",
    "zwoole.reactor.core.deadlines",
    "zwoole.reactor.core.loop",
    "zwoole.reactor.routing.parking",
    "zwoole.reactor.routing.router",
    "zwoole.reactor.clients.limits",
    "zwoole.reactor.clients.inbound",
    "zwoole.reactor.clients.closing",
    "zwoole.reactor.clients.heartbeat",
    "zwoole.reactor.clients.handshake",
    "zwoole.reactor.clients.policy",
    "zwoole.reactor.clients.opening",
    "zwoole.reactor.clients.listener",
    "zwoole.reactor.sending.outbound",
    "zwoole.workers.invocation.received_frame",
    "zwoole.workers.links.flusher",
    "zwoole.workers.links.master_link",
    "zwoole.workers.links.arguments",
    "zwoole.workers.links.masters",
    "zwoole.workers.links.commands",
    "zwoole.workers.core.counts",
    "zwoole.workers.invocation.invocation",
    "zwoole.workers.core.steps",
    "zwoole.workers.core.waiter",
    "zwoole.workers.core.fifo",
    "zwoole.workers.invocation.lanes",
    "zwoole.workers.invocation.runner",
    "zwoole.workers.invocation.handlers",
    "zwoole.workers.invocation.scheduler",
    "zwoole.workers.invocation.dispatch",
    "zwoole.bench.loadtest.content",
    "zwoole.bench.loadtest.tally",
    "zwoole.bench.loadtest.connection",
    "zwoole.bench.loadtest.pace",
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


class Build(build):
    """Build, and remove what an earlier build of other modules has left in the same folder: it would be installed."""

    def run(self) -> None:
        """Build everything, then remove the rest."""
        super().run()
        commands = [self.get_finalized_command(name) for name in self.get_sub_commands()]
        built = {Path(file).absolute() for command in commands for file in command.get_outputs()}
        for file in Path(self.build_lib).absolute().rglob("*"):
            if file.is_file() and file not in built:
                file.unlink()


setup(ext_modules=extensions(), cmdclass={"build": Build})
