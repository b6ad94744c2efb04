# Sourced by the checks written in shell: the files of the project.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# list_files: what git tracks, or, in a tree that is no clone, what is there; NUL-terminated, relative to the root.
list_files() {
    cd "$root" || return 1
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files -z | while IFS= read -r -d '' file; do
            if [ -f "$file" ]; then printf '%s\0' "$file"; fi
        done
    else
        find . \( -name .git -o -name build -o -name node_modules -o -name __pycache__ -o -name .cache \) -prune \
            -o -type f -printf '%P\0'
    fi
}
