#!/usr/bin/env bash
# Runs a target of the Makefile with every installed Python that zwoole supports, each in its own venv.
#
# usage: tests/pythons.sh PYTHON TARGET
#   PYTHON  its version is skipped: `make test` covers it
set -euo pipefail
cd "$(dirname "$0")/.."

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# The newest Python of a version that starts, on the PATH or from pyenv. A pyenv shim may exist and not start.
find_python() {
  local candidate
  for candidate in "python$1" $(printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python | sort -rV); do
    if [ "$(version_of "$candidate")" = "$1" ]; then
      command -v "$candidate"
      return
    fi
  done
}

tested=$(version_of "$1")
summary=()
for version in 3.10 3.11 3.12 3.13 3.14; do
  if [ "$version" = "$tested" ]; then
    continue
  fi
  python=$(find_python "$version")
  if [ -z "$python" ]; then
    summary+=("Python $version: SKIPPED, it is not installed")
    continue
  fi
  echo "== Python $version: $python"
  mkdir -p .venvs
  make --no-print-directory VENV=".venvs/$version" PYTHON="$python" "$2"
  summary+=("Python $version: passed")
done
printf '%s\n' "${summary[@]}"
