#!/usr/bin/env bash
# Every C file is as clang-format 14 with the project's .clang-format writes it. To mend one: clang-format-14 -i FILE
set -euo pipefail
# shellcheck source=tests/lint/list.sh
. "$(dirname "$0")/list.sh"

cd "$root"
command -v clang-format-14 >/dev/null || {
    echo "clang-format-14 is not installed (scripts/packages.txt)" >&2
    exit 1
}
mapfile -d '' -t files < <(list_files | grep -zE '\.[ch]$')
[ ${#files[@]} -gt 0 ] || {
    echo "no C files found" >&2
    exit 1
}
clang-format-14 --dry-run -Werror "${files[@]}"
echo "${#files[@]} files are in the right format"
