# For bash scripts to source, in the folder of the checkout: a virtual environment with bmhctl and all that its
# tests need. It is the active one if there is one, else .venv; it is made when it is missing.

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    echo "bmhctl needs Python 3.11 or newer; name one: PYTHON=/path/to/python $0" >&2
    return 1
}

make_environment() {
    local python stamp=$1/.bmhctl-installed
    if [ ! -x "$1/bin/python" ]; then
        python=$(find_python) || return
        "$python" -m venv "$1" || return
    fi
    # Installing again is only worth its time when what is declared has changed, or for another checkout.
    if [ ! "$stamp" -nt pyproject.toml ] || [ "$(cat "$stamp")" != "$PWD" ]; then
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]' || return
        pwd >"$stamp"
    fi
}

export VIRTUAL_ENV=${VIRTUAL_ENV:-$PWD/.venv}
make_environment "$VIRTUAL_ENV" || exit
export PATH="$VIRTUAL_ENV/bin:$PATH"
