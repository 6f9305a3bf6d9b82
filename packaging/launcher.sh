#!/bin/sh
# agent @VERSION@ (@COMMIT@). One file: this script, then a gzipped tar of the program.
#
# At its first run the program is unpacked into a cache folder that bears the hash of its content; after that this
# script only looks whether the copy is whole and ours, and becomes it (exec: no second process, the pid stays).
# Rules for an editor:
# - Everything used must be in a minimal system, busybox included: ls tail gzip tar mv mkdir mktemp rm (find, flock,
#   getconf, readlink where they exist). PATH may be empty.
# - Names of variables begin with _agent_, or they would overwrite what the caller exported for its own use.
# - A run that finds its copy forks once (ls). Anything dearer belongs behind prepare().
# - A copy is trusted only if it and the folder around it belong to us or root and nobody else may write there;
#   it appears under its final name by rename, so it is whole or not there at all.

_agent_hash=@HASH@
_agent_size_mb=@SIZE_MB@
_agent_files='@FILES@'
_agent_reasons=
: "${PATH:=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"

# a parent that is itself a frozen program must not make this one believe to be its child
unset _MEIPASS2 _PYI_ARCHIVE_FILE _PYI_APPLICATION_HOME_DIR _PYI_PARENT_PROCESS_LEVEL _PYI_SPLASH_IPC
unset _PYI_LINUX_PROCESS_NAME

case $0 in
/*) AGENT_BINARY=$0 ;;
*/*) AGENT_BINARY=${PWD%/}/${0#./} ;;
*) AGENT_BINARY=$(command -v -- "$0") ;;
esac
export AGENT_BINARY

# every FUNCTION ARG…: calls FUNCTION PLACE ARG… for each place where the copy may lie, best first
every() {
    _agent_call=$1
    shift
    if [ -n "${AGENT_CACHE:-}" ]; then
        case $AGENT_CACHE in
        /*) "$_agent_call" "${AGENT_CACHE%/}" "$@" ;;
        *) "$_agent_call" "${PWD%/}/${AGENT_CACHE%/}" "$@" ;;
        esac
        return 0
    fi
    "$_agent_call" /var/cache/agent "$@"
    case ${XDG_CACHE_HOME:-} in
    /*) "$_agent_call" "${XDG_CACHE_HOME%/}/agent" "$@" ;;
    *) case ${HOME:-} in /*) "$_agent_call" "${HOME%/}/.cache/agent" "$@" ;; esac ;;
    esac
    _agent_real=$(readlink -f "$AGENT_BINARY" 2>/dev/null) || _agent_real=$AGENT_BINARY
    "$_agent_call" "${_agent_real%/*}/.agent" "$@"
}

# is_ours FOLDER MODE OWNER: a real folder of ours or root's, where nobody else may write
is_ours() {
    case $2 in d????-??-*) ;; *) return 1 ;; esac
    [ "$3" = 0 ] || [ -O "$1" ]
}

# are_ours PLACE FOLDER: both are
are_ours() {
    { read -r _agent_mode _agent_ _agent_owner _agent_ && is_ours "$1" "$_agent_mode" "$_agent_owner" &&
        read -r _agent_mode _agent_ _agent_owner _agent_ && is_ours "$2" "$_agent_mode" "$_agent_owner"; } <<END
$(ls -ldn "$1" "$2" 2>/dev/null)
END
}

is_whole() {
    for _agent_file in $_agent_files; do
        [ -s "$1/$_agent_file" ] || return 1
    done
}

is_ready() { [ -x "$1/$_agent_hash/agent" ] && are_ours "$1" "$1/$_agent_hash" && is_whole "$1/$_agent_hash"; }

# run PLACE ARG…: becomes the program if its copy is there; else returns
run() {
    is_ready "$1" || return 0
    _agent_place=$1
    shift
    exec "$_agent_place/$_agent_hash/agent" "$@"
}

# prepare PLACE ARG…: unpacks there and becomes the program; returns with the reason noted if it can not
prepare() {
    _agent_place=$1
    shift
    if _agent_problem=$(unpack "$_agent_place" 2>&1); then
        exec "$_agent_place/$_agent_hash/agent" "$@"
    fi
    _agent_reasons="$_agent_reasons; $_agent_place: $_agent_problem"
}

# ---- from here on only the first run comes by; every function runs in a subshell, what it prints is the reason ----

unpack() {
    umask 022
    mkdir -p "$1" 2>/dev/null || { echo "cannot be created"; return 1; }
    check_place "$1" || return 1
    [ -w "$1" ] || { echo "is not writable"; return 1; }
    if command -v flock >/dev/null 2>&1 && : 2>/dev/null >"$1/.lock"; then
        exec 9>"$1/.lock"
        flock -w 60 9  # when it fails: two may unpack, and one of them throws its copy away
    fi
    is_ready "$1" && return 0
    check_planted "$1" || return 1
    find "$1" -maxdepth 1 -name '.unpack-*' -mmin +60 -exec rm -rf {} + 2>/dev/null
    _agent_new=$(mktemp -d "$1/.unpack-XXXXXX") || return 1
    trap 'rm -rf "$_agent_new"; exit 130' INT TERM HUP
    if extract && put_in_place "$1"; then return 0; fi
    rm -rf "$_agent_new"
    return 1
}

# check_place PLACE: nobody else can change it, nor swap a folder above it
check_place() {
    _agent_above=$(cd -P "$1" && pwd -P) || return 1
    are_ours "$1" "$_agent_above" || { refuse "$1"; return 1; }
    while [ -n "$_agent_above" ]; do
        _agent_above=${_agent_above%/*}
        read -r _agent_mode _agent_ _agent_owner _agent_ <<END
$(ls -ldn "${_agent_above:-/}")
END
        [ "$_agent_owner" = 0 ] || [ -O "${_agent_above:-/}" ] || { refuse "$_agent_above"; return 1; }
        case $_agent_mode in
        d????????[tT]* | d???????-*) ;;
        *) refuse "$_agent_above"; return 1 ;;
        esac
    done
}

check_planted() {
    [ -e "$1/$_agent_hash" ] || [ -L "$1/$_agent_hash" ] || return 0
    are_ours "$1" "$1/$_agent_hash" || { refuse "$1/$_agent_hash"; return 1; }
}

refuse() {
    _agent_listing=$(ls -ldn "$1" 2>&1)
    echo "not trusted, others could change it: $_agent_listing (it must be a folder of this user or root that \
nobody else may write to)"
}

extract() {
    : >"$_agent_new/probe" && chmod 755 "$_agent_new/probe" || return 1
    [ -x "$_agent_new/probe" ] || { echo "is mounted noexec"; return 1; }
    rm "$_agent_new/probe"
    _agent_errors=$({ tail -c +@OFFSET@ "$AGENT_BINARY" | { gzip -dc || : >"$_agent_new/failed"; } |
        tar -x -o -f - -C "$_agent_new"; } 2>&1) && [ ! -e "$_agent_new/failed" ] && is_whole "$_agent_new" || {
        case $_agent_errors in
        *"No space left"* | *"uota exceeded"*) echo "the disk is full, $_agent_size_mb MB are needed" ;;
        *) printf 'unpacking failed: %s\n' "${_agent_errors:-some files are missing}" | head -n 1 ;;
        esac
        return 1
    }
    chmod 755 "$_agent_new"
}

# Several at once: the first rename wins, the others find a copy that is ready. A damaged one is put aside first.
put_in_place() {
    mv -T "$_agent_new" "$1/$_agent_hash" 2>/dev/null && return 0
    if is_ready "$1"; then
        rm -rf "$_agent_new"
        return 0
    fi
    mv -T "$1/$_agent_hash" "$_agent_new.damaged" 2>/dev/null
    mv -T "$_agent_new" "$1/$_agent_hash" || return 1
    rm -rf "$_agent_new.damaged"
}

check_host() {
    _agent_machine=$(uname -m)
    [ "$_agent_machine" = @MACHINE@ ] || {
        echo "agent: this build is for @MACHINE@, this host is $_agent_machine: build it here with ./build.sh" >&2
        exit 1
    }
    _agent_libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || _agent_libc=$(ldd --version 2>&1 | head -n 1)
    case $_agent_libc in
    *musl*) _agent_libc="no glibc (musl)" _agent_minor=0 ;;
    glibc\ 2.* | ldd*\ 2.*) _agent_minor=${_agent_libc##* 2.} _agent_minor=${_agent_minor%%[!0-9]*} ;;
    *) return 0 ;;
    esac
    [ "${_agent_minor:-999}" -ge @GLIBC_MINOR@ ] || {
        echo "agent: this host has $_agent_libc, this build needs glibc @GLIBC@ or newer: \
use a newer system, or build it on this one with ./build.sh" >&2
        exit 1
    }
}

every run "$@"
check_host
every prepare "$@"
echo "agent: found no place to unpack itself into (${_agent_reasons#; }). Set AGENT_CACHE=/a/folder with \
$_agent_size_mb MB free, on a disk not mounted noexec, that only you can write to." >&2
exit 126
