#!/bin/sh
# The whole life of one host on the example lab: each command is shown with its output.
#
#   examples/tour.sh [FOLDER]
# It needs only Python 3.11 or newer; PYTHON=… names one. It installs bmhctl into a virtual environment in FOLDER, which
# must be new or empty, and which is kept. Without FOLDER it uses a temporary folder and removes that at the end. The
# checkout is not changed. BMHCTL_TOUR_BIN=… names a bmhctl that is installed already.
set -eu

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
keep=${1:+yes}
case ${1:-} in -*) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;; esac

fail() {
    echo "tour: $*" >&2
    exit 1
}

if [ "$keep" ]; then
    mkdir -p -- "$1"
    folder=$(CDPATH='' cd -- "$1" && pwd)
    [ -z "$(ls -A "$folder")" ] || fail "$folder is not empty"
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
fi

# Commands are bold on a terminal, and plain in a pipe or with NO_COLOR.
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    bold=$(printf '\033[1m') plain=$(printf '\033[0m')
fi

say() {
    printf '\n# %s\n' "$1"
}

show() {
    printf '\n%s$ %s%s\n' "$bold" "$1" "$plain"
}

play() {
    show "$1"
    eval "$1" 2>&1 || fail "this should have succeeded"
}

play_refused() { # the exit status that is expected, and the command
    show "$2"
    status=0
    eval "$2" 2>&1 || status=$?
    echo "(exit status $status)"
    [ "$status" = "$1" ] || fail "this should have ended with status $1"
}

find_python() {
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
        if [ "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            return
        fi
    done
    fail "bmhctl needs Python 3.11 or newer; name one: PYTHON=/path/to/python $0"
}

install_bmhctl() {
    find_python
    say "Installing bmhctl with $("$python" --version) into $folder/venv"
    "$python" -m venv "$folder/venv" || fail "$python can't make virtual environments (on Debian: python3-venv)"
    # From a copy: building leaves files beside the sources.
    mkdir "$folder/source"
    for part in pyproject.toml README.md LICENSE bmhctl; do
        cp -R "$checkout/$part" "$folder/source/"
    done
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$folder/source"
    rm -rf "$folder/source"
    PATH=$folder/venv/bin:$PATH
}

if [ "${BMHCTL_TOUR_BIN:-}" ]; then
    PATH=$(dirname -- "$BMHCTL_TOUR_BIN"):$PATH
else
    install_bmhctl
fi

mkdir "$folder/lab"
cp -R "$checkout/examples/lab.toml" "$checkout/examples/lab" "$checkout/examples/baremetalhosts.yaml" "$folder/lab/"
cd "$folder/lab"
unset BMH_RESERVATION
export BMHCTL_INVENTORY=lab.toml

say "A lab of seven hosts, declared in lab.toml. None has been checked yet: all are initial."
play "bmhctl list"

say "A host that passes its readiness checks is available."
play "bmhctl ready node01 --verbose"
play "bmhctl ready --state initial --quiet"

say "Reserve hosts by name, or any that match a selector: all or none, and for a limited time."
play "bmhctl reserve node01 --for nightly --ttl 2h"
play "bmhctl reserve -l arch=arm64 -n 2 --as bob@lab"

say "A reserved host is not given to another user. The exit status says why: 5 is busy, 6 is impossible, 8 is not yours."
play_refused 5 "bmhctl reserve -l arch=arm64"
play_refused 6 "bmhctl reserve -l arch=riscv64"
play_refused 8 "bmhctl taint arm01 --reason 'I want it'"
play "bmhctl status"

say "A used host is tainted: it can not be reserved before its cleanup succeeded."
play "bmhctl taint node01 --reason 'nightly is done'"
play_refused 5 "bmhctl reserve node01"
play "bmhctl why node01"
play "bmhctl reset node01"
play "bmhctl ready node01"

say "A CI job is one command: it reserves, runs, and gives the host back, however it ends."
play "bmhctl run -l gpu --for 'job 4711' --wait 5m -- sh -c 'echo \"testing on \$BMH_HOST at \$BMH_ADDRESS\"'"
play "bmhctl history gpu01 -n 2"

say "A host can go to maintenance at any time. Two people have two reasons; it returns when both are closed."
play "bmhctl maintain node01 --reason 'new disk' --until 3d"
play "bmhctl maintain node01 --reason 'new firmware' --as bob@lab"
play "bmhctl resume node01"
play "bmhctl resume node01 --as bob@lab --dry-run"
play "bmhctl resume node01 --as bob@lab"

say "BareMetalHost manifests can be imported; hosts that are in use elsewhere enter as reserved."
play "bmhctl import baremetalhosts.yaml --dry-run"

say "The history of node01, and its place in the lifecycle."
play "bmhctl history node01"
play "bmhctl graph node01"
play "bmhctl status"

if [ "$keep" ]; then
    say "All of this is kept. To go on:"
    printf '\n    cd %s\n    export BMHCTL_INVENTORY=lab.toml PATH=%s:$PATH\n' "$PWD" "$(dirname "$(command -v bmhctl)")"
fi
