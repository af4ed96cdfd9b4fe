#!/bin/sh
# Lint what has changed since the last commit, and run the tests of the folders that it lies in.
set -eu
bin=$1
changed=$(git diff --name-only --diff-filter=d HEAD; git ls-files --others --exclude-standard)
python=$(printf '%s\n' "$changed" | grep '\.pyi\{0,1\}$' || true)
if [ -z "$python" ]; then
    echo "no Python file has changed since the last commit"
    exit 0
fi
"$bin/ruff" format --check $python
"$bin/ruff" check $python
"$bin/mypy"
"$bin/lint-imports"
tests=$(printf '%s\n' "$python" | sed -n 's|^intramodal/\([a-z]*\)/.*|\1|p' | sort -u | while read -r folder; do
    [ ! -d "tests/unit/$folder" ] || echo "tests/unit/$folder"
    [ "$folder" != commands ] || echo tests/cli
    [ "$folder" != store ] || echo tests/contract
    [ "$folder" != runs ] || echo tests/contract/test_ledger.py
done)
tests="$tests $(printf '%s\n' "$python" | grep '^tests/.*/test_[^/]*$' || true)"
[ -z "$(echo "$tests" | tr -d ' \n')" ] || "$bin/python" -m pytest -q -m 'not slow' $(printf '%s\n' $tests | sort -u)
