#!/bin/sh
# Makes .venv with the given interpreter, or leaves it alone when nothing changed: sh tools/environment.sh python3
# Runs at the root of the clone. Any change of the Python version or of a lock rebuilds it from nothing, so that
# an interrupted or half-updated environment is never used.
set -eu
unset PYTHONHOME PYTHONPATH PIP_USER

python=${1:-python3}
project_lock='{{cookiecutter.project_slug}}/requirements.txt'

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    fail "$python does not run: make: name a Python 3.11, 3.12 or 3.13, such as \`PYTHON=python3.12 make demo\`"
case $version in
    3.11 | 3.12 | 3.13) ;;
    *) fail "$python is Python $version, not 3.11, 3.12 or 3.13: make: type \`PYTHON=python3.12 make demo\`" ;;
esac
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make an environment: make: install python3-venv (apt install python3-venv)"

stamp="$version $(cat "$project_lock" requirements-dev.txt | "$python" -c \
    'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')"
if [ -f .venv/stamp ] && [ "$(cat .venv/stamp)" = "$stamp" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

echo "environment: installing into .venv with Python $version; 2.5 GB, one to three minutes"
rm -rf .venv
"$python" -m venv .venv || fail "$python -m venv failed: .venv: install python3-venv (apt install python3-venv)"
# --no-deps: the locks are complete closures, and pip would insist on packages that are left out on purpose.
# --use-pep517: `promise` has no wheel; older pips warn about building it in any other way.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --use-pep517 \
    -r "$project_lock" -r requirements-dev.txt ||
    fail "pip could not install everything: .venv: read pip's lines above, then run make again"
printf '%s\n' "$stamp" >.venv/stamp
