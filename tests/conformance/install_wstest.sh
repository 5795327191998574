#!/usr/bin/env bash
# Installs Autobahn|Testsuite, version 0.8.2, for the user, and prints the path of its program wstest. Installs nothing
# if it is there already. Needs root on Debian 12, where Python 2.7 is missing.
# usage: install_wstest.sh
set -euo pipefail

home=$HOME/.cache/autobahn-testsuite
wstest=$home/bin/wstest
python27=/usr/bin/python2.7 # not the first on the PATH: a version manager's shim may have no Python behind it

# The suite needs Python 2.7, which Debian 11 (bullseye) was the last release to have. The apt entry for it is removed
# again, so that nothing else is installed from there.
install_python27() {
  local entry=/etc/apt/sources.list.d/bullseye-for-wstest.list mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/$' || true)
  trap "rm -f '$entry'" EXIT
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
    "${mirror:-http://deb.debian.org/debian/} bullseye main" >"$entry"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
    python2.7 python2.7-dev python3-venv gcc libc6-dev
}

install_wstest() {
  local tools
  tools=$(mktemp -d)
  python3 -m venv "$tools"
  "$tools/bin/pip" install -q 'virtualenv==20.21.1' # the last version that supports Python 2.7
  rm -rf "$home"
  "$tools/bin/virtualenv" -q -p "$python27" "$home"
  "$home/bin/pip" install -q 'autobahntestsuite==0.8.2'
  rm -rf "$tools"
}

if ! "$wstest" --help >/dev/null 2>&1; then
  [ -e /usr/include/python2.7/Python.h ] || install_python27 >&2
  install_wstest >&2
  "$wstest" --help >/dev/null
fi
echo "$wstest"
