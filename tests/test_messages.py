"""docs/troubleshooting.md lists every message that zwoole prints, and no others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"
FOLDERS = ("reactor", "workers", "shared", "supervisor", "src/zwoole")
LEVELS = {"info", "warning", "error", "critical", "exception"}
EXPLAIN = {
    "describe_exit",
    "describe_end",
    "awaited",
    "_why_unheard",
    "explain",
    "look",
    "held_by",
    "_outside",
    "_why_not",
    "hint",
}  # functions whose results are parts of messages
RAISED_BY = {"fail", "_failed", "boot_failure", "end_worker", "print_line"}  # functions that receive a message to print

# Exceptions that never leave zwoole: they become a close code, an HTTP response, or part of a log message.
INSIDE = {"WireError", "ControlError", "MalformedOffer", "Refused", "SystemExit"}
# Modules whose other exceptions never leave zwoole: they decode data that another process of the server has written.
DECODERS = {
    "shared/memory/mapping.py",
    "shared/request.py",
    "shared/wire/payload_ring.py",
    "shared/memory/snapshot.py",
    "shared/memory/connection_table.py",
}

PIECE = re.compile(r"%[-\d.]*[a-z]|\0")
SPAN = re.compile(r"``(.+?)``|`([^`]+)`")


def template(node: ast.expr) -> str:
    """Return a message as in the source, with a NUL in the place of each inserted value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) if isinstance(part, ast.Constant) else "\0" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return "\0"


def forms(node: ast.expr, names: dict[str, list[ast.expr]]) -> Iterator[ast.expr]:
    """Yield the possible values of an expression: both branches of a condition, each value assigned to its name."""
    if isinstance(node, ast.IfExp):
        yield from forms(node.body, names)
        yield from forms(node.orelse, names)
    elif isinstance(node, ast.Name) and node.id in names:
        for value in names[node.id]:
            yield from forms(value, names)
    else:
        yield node


def values(scope: ast.AST) -> dict[str, list[ast.expr]]:
    """Return the texts assigned to the names in a module or function."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and template(node.value) != "\0":
            found.setdefault(node.targets[0].id, []).append(node.value)
    return found


def said_by(node: ast.AST, module: str) -> Iterator[ast.expr]:
    """Yield the message of a statement or call that reports one to the operator or programmer of a server."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        called = name.rpartition(".")[2]
        to_stderr = name == "print" and any(keyword.arg == "file" for keyword in node.keywords)
        if (called in LEVELS and "log" in name) or to_stderr:
            yield node.args[0]
        elif called in RAISED_BY:
            yield from node.args[:1]
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "error")
    elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        kind = ast.unparse(node.exc.func).removeprefix("self.")
        inside = kind in INSIDE or (module in DECODERS and kind != "AttributeError")
        yield from () if inside or kind in RAISED_BY | EXPLAIN else node.exc.args[:1]
    elif isinstance(node, ast.FunctionDef) and node.name in EXPLAIN:
        for part in ast.walk(node):
            if isinstance(part, ast.Return) and part.value is not None:
                value = part.value
                yield value.args[0] if isinstance(value, ast.Call) and value.args else value


def messages() -> dict[str, str]:
    """Return every message that has text of its own, and the module it is in."""
    found = {}
    for folder in FOLDERS:
        for source in sorted((ROOT / folder).glob("**/*.py")):
            module = str(source.relative_to(ROOT))
            tree = ast.parse(source.read_text(encoding="utf-8"))
            functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
            for scope in (tree, *functions):
                names = {} if scope is tree else values(scope)
                for said in (
                    form for node in ast.walk(scope) for it in said_by(node, module) for form in forms(it, names)
                ):
                    text = " ".join(PIECE.sub("\0", template(said)).split())
                    if re.search(r"[a-z]{2}", text.removeprefix("zwoole: ")):
                        found[text] = module
    return found


def pattern(message: str) -> re.Pattern[str]:
    """Return a pattern that matches a message with any inserted values."""
    return re.compile(".*".join(re.escape(part) for part in message.split("\0")), re.DOTALL)


def spans() -> list[str]:
    """Return the messages in the first columns of the page's tables."""
    cells = re.findall(r"^\| (`.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [(double or single).strip() for cell in cells for double, single in SPAN.findall(cell)]


MESSAGES = messages()
SPANS = spans()


def test_the_sources_have_messages() -> None:
    """A search that finds nothing must not make the other tests pass."""
    assert len(MESSAGES) > 100
    assert {"reactor", "workers", "supervisor", "src"} <= {module.partition("/")[0] for module in MESSAGES.values()}


@pytest.mark.parametrize("message", MESSAGES, ids=[message.replace("\0", "*")[:80] for message in MESSAGES])
def test_the_page_has_the_message(message: str) -> None:
    whole = pattern(message)
    assert any(whole.fullmatch(span) for span in SPANS), (
        f"docs/troubleshooting.md lacks a message of {MESSAGES[message]}"
    )


@pytest.mark.parametrize("span", SPANS, ids=[span[:80] for span in SPANS])
def test_the_message_on_the_page_is_one_of_the_code(span: str) -> None:
    assert any(pattern(message).fullmatch(span) for message in MESSAGES), "no message of the sources reads like this"
