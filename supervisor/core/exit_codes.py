"""The exit codes of a server, which are those of its first process."""

from __future__ import annotations

EXIT_OK = 0
EXIT_CANNOT_START = 1
EXIT_BOOT_FAILED = 3
EXIT_FORCED = 4
