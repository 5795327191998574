"""Write docs/settings.md from the settings' own metadata: python docs/settings_page.py

tests/test_docs.py fails if the page and the metadata differ.
"""

from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from zwoole.shared.settings import Settings

PAGE = Path(__file__).parent / "settings.md"
HEAD = """\
# Settings

This page lists every setting, with its default, the values that it may have, and its meaning.

You can give a setting in three ways. If you give it in more than one, the first of these wins:

1. an option of `zwoole run`: `--port 9000`, `--set close_timeout=2`;
2. `server.set({"close_timeout": 2})`, before `server.start()`;
3. an argument of `Server("127.0.0.1", 8080, close_timeout=2)`.

An unknown name is an error, and so is a value that is not allowed. zwoole reports both before it starts anything. This
page is generated from `shared/settings.py`.

| name | default | values | meaning |
|---|---|---|---|
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(f"{row(setting)}\n" for setting in fields(Settings))


def row(setting: Field[Any]) -> str:
    """Return a setting's row of the table."""
    meta = setting.metadata
    default = f"`{number(setting.default)}`"
    if setting.name == "worker_num":  # the one default that depends on the machine
        default = "the number of CPUs that the server may use"
    if isinstance(setting.default, tuple):
        allowed = "a list of text"
    elif meta["low"] is not None:
        allowed = f"{number(meta['low'])} to {number(meta['high'])}"
    elif isinstance(setting.default, bool):
        allowed = "True, False"
    else:
        allowed = ", ".join(meta["choices"] or ["text"])
    return f"| `{setting.name}` | {default} | {allowed} | {meta['doc']} |"


def number(value: Any) -> str:
    """Return a value as Python takes it, long numbers in groups of three digits."""
    return f"{value:_}" if isinstance(value, int) and value >= 100_000 else repr(value)


if __name__ == "__main__":
    PAGE.write_text(page())
