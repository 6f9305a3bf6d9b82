#!/bin/sh
# The developer's door.
#
#   ./build.sh                makes dist/agent from nothing but a stock Python >= 3.11
#   ./build.sh demo [...]     a small group on this machine, ready to type into (arguments go to `agent demo`)
#   ./build.sh test [...]     installs what the tests need, then runs them (arguments go to pytest)
#   ./build.sh check          ruff, ruff format, mypy
#   ./build.sh bench [...]    measures (arguments go to `python -m bench`)
#   ./build.sh venv           only makes .venv and prints its python
#   ./build.sh lock           resolves pyproject.toml anew and writes both lock files
#
# PYTHON=/path/to/python3 chooses the interpreter. As root on Debian missing packages are installed
# (NO_APT=1 forbids it); otherwise they are named, with the command that installs them.
set -eu
cd "$(dirname "$0")"

say() { printf 'build.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# ---- packages of the system -------------------------------------------------------------------------

may_install() { [ "$(id -u)" = 0 ] && have apt-get && [ -z "${NO_APT:-}" ]; }

# need "what for" package…: installs them, or says how and fails
need() {
    reason=$1; shift
    if may_install; then
        say "installing $* ($reason)"
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@" >/dev/null 2>&1 && return 0
        apt-get -qq update >/dev/null || die "apt-get update failed; then run: apt-get install $*"
        apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@" >/dev/null ||
            die "could not install $*"
    elif have apt-get; then
        die "missing: $reason. Get it with: sudo apt-get install $*"
    else
        die "missing: $reason. Install what your system calls: $*"
    fi
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

need_for_tests() {
    if ! have dpkg-query; then
        have redis-server || say "redis-server not found: the tests against Redis will say so"
        return 0
    fi
    missing=
    for package in redis-server busybox faketime tmux gcc g++ lua5.1 lua5.2 lua5.3 lua5.4 luajit lua-socket \
        teeworlds-server ddnet-server wesnoth-1.16-server freeciv-server; do
        installed "$package" || missing="$missing $package"
    done
    [ -z "$missing" ] && return 0
    # installing a server must not start it as a service of this machine
    if may_install && [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT INT TERM
    fi
    # shellcheck disable=SC2086
    need "servers, compilers and interpreters that the tests run" $missing
    if may_install; then rm -f /usr/sbin/policy-rc.d; trap - EXIT INT TERM; fi
}

# ---- the interpreter and its .venv -------------------------------------------------------------------

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Debian's python makes the smaller and quicker binary, so it goes first.
choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || die "PYTHON=$PYTHON is not a Python >= 3.11"
        return 0
    fi
    for PYTHON in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$PYTHON" && is_new_enough "$PYTHON"; then return 0; fi
    done
    if may_install; then need "Python" python3 python3-venv; PYTHON=/usr/bin/python3
        is_new_enough "$PYTHON" && return 0
    fi
    die "no Python >= 3.11 found. Get one (Debian 12+, Ubuntu 24.04+: sudo apt-get install python3 python3-venv; \
else https://www.python.org/downloads or pyenv) and name it: PYTHON=/path/to/python3 ./build.sh"
}

minor_of() { "$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

make_venv() {
    choose_python
    wanted=$({ pwd; cat requirements-dev.lock; "$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)'; } |
        sha256sum | cut -d' ' -f1)
    if [ "$(cat .venv/stamp 2>/dev/null)" = "$wanted" ] && [ -x .venv/bin/python ]; then return 0; fi

    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
        need "the venv module of $PYTHON" "python$(minor_of)-venv"
    same=$("$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)')
    if [ "$(.venv/bin/python -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null)" != "$same" ]; then
        rm -rf .venv
        say "making .venv with $PYTHON"
        "$PYTHON" -m venv .venv || die "could not make .venv with $PYTHON -m venv"
    fi
    rm -f .venv/stamp
    say "installing the locked packages into .venv"
    if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
        --require-hashes -r requirements-dev.lock; then
        have cc || have gcc || say "there is no C compiler, which packages without a wheel for this machine need: \
sudo apt-get install build-essential python3-dev"
        die "pip could not install requirements-dev.lock (see above)"
    fi
    echo "$wanted" >.venv/stamp
}

# One builder at a time: two that install into one .venv break it.
locked() {
    mkdir -p build
    if have flock; then
        exec 9>build/lock
        flock -n 9 || { say "waiting for another build.sh"; flock 9; }
        "$@"
        exec 9>&-
    else
        "$@"
    fi
}

# ---- the binary --------------------------------------------------------------------------------------

need_for_binary() {
    have strip && have objdump || need "strip and objdump" binutils
    .venv/bin/python packaging/libpython.py ||
        need "the shared libpython of $PYTHON (with pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared)" \
            "libpython$(minor_of)"
}

sources_hash() {
    { git rev-parse HEAD 2>/dev/null || echo unknown
      cat .venv/stamp
      find agent roles packaging agent.spec build.sh -type f ! -name '*.pyc' | LC_ALL=C sort |
          xargs sha256sum; } | sha256sum | cut -d' ' -f1
}

make_binary() {
    now=$(sources_hash)
    if [ -x dist/agent ] && [ "$(cat build/stamp 2>/dev/null)" = "$now" ]; then return 0; fi
    need_for_binary
    say "freezing"
    # A fixed hash seed, so that the same sources give the same bytes. Modules uncompressed: the gzip around everything
    # makes them smaller than zlib each by each does, and a start need not inflate them.
    PYTHONHASHSEED=0 PYINSTALLER_ZLIB_COMPRESSION_LEVEL=0 .venv/bin/python -m PyInstaller --noconfirm --log-level WARN \
        --distpath build/onedir --workpath build/work agent.spec || die "PyInstaller failed (see above)"
    .venv/bin/python packaging/assemble.py build/onedir/agent dist/agent
    echo "$now" >build/stamp
}

make_lock() {
    .venv/bin/python -m venv build/lock-venv
    build/lock-venv/bin/pip install --quiet --disable-pip-version-check pip-tools
    export CUSTOM_COMPILE_COMMAND='./build.sh lock'
    set -- --quiet --generate-hashes --strip-extras --allow-unsafe --no-emit-find-links --no-emit-index-url \
        --no-emit-trusted-host --no-emit-options
    build/lock-venv/bin/pip-compile "$@" --upgrade -o requirements.lock pyproject.toml
    build/lock-venv/bin/pip-compile "$@" --upgrade --extra dev -c requirements.lock -o requirements-dev.lock \
        pyproject.toml
}

everything() { make_venv; make_binary; }

command=${1:-binary}
[ $# -gt 0 ] && shift
case $command in
binary) locked everything; say "dist/agent is ready ($(wc -c <dist/agent) bytes)" ;;
venv) locked make_venv; echo "$PWD/.venv/bin/python" ;;
demo) locked make_venv; exec .venv/bin/python -m agent demo "$@" ;;
test) need_for_tests; locked everything; exec .venv/bin/python -m pytest "$@" ;;
check)
    locked make_venv
    .venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy
    ;;
bench) locked everything; exec .venv/bin/python -m bench "$@" ;;
lock) locked make_venv; make_lock ;;
-h | --help | help) sed -n '2,/^set -eu/{/^set/d;s/^# \{0,1\}//;p;}' "$0" ;;
*) say "unknown: $command"; sed -n '4,10p' "$0" | cut -c3- >&2; exit 2 ;;
esac
