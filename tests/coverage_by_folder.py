"""Prints how many of the lines and branches in each folder the tests reach, as a table in Markdown.

usage: python tests/coverage_by_folder.py FILE
    FILE  what `coverage json` has written
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

COUNTS = ("covered_lines", "num_statements", "covered_branches", "num_branches")


def sums(files: dict[str, dict[str, Any]]) -> dict[str, list[int]]:
    """Return the four counts for each folder, and for all together."""
    found: dict[str, list[int]] = defaultdict(lambda: [0] * len(COUNTS))
    for name, file in files.items():
        for folder in (f"`{Path(name).parent}/`", "all"):
            found[folder] = [total + file["summary"][count] for total, count in zip(found[folder], COUNTS, strict=True)]
    return found


def percent(part: int, whole: int) -> str:
    """Return a share with one decimal, "" if there is nothing to reach; only what is complete is rounded to 100."""
    if not whole:
        return ""
    return f"{min(100 * part / whole, 100.0 if part == whole else 99.9):.1f} %"


def main() -> None:
    """Print the table."""
    found = sums(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["files"])
    print("| folder | lines | branches |\n|---|---:|---:|")
    for folder in sorted(found, key=lambda folder: (folder == "all", folder)):
        lines, of_lines, branches, of_branches = found[folder]
        print(f"| {folder} | {percent(lines, of_lines)} | {percent(branches, of_branches)} |")


if __name__ == "__main__":
    main()
