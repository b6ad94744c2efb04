#!/usr/bin/env bash
# Every shell script parses, and where shellcheck is installed it has nothing to say.
set -euo pipefail
# shellcheck source=tests/lint/list.sh
. "$(dirname "$0")/list.sh"

cd "$root"
scripts=()
while IFS= read -r -d '' file; do
    first=
    IFS= read -r first <"$file" || true
    case $file:$first in
    *.sh:* | *:'#!'*[/\ ]bash* | *:'#!'*[/\ ]sh | *:'#!'*[/\ ]sh\ *) scripts+=("$file") ;;
    esac
done < <(list_files)
[ ${#scripts[@]} -gt 0 ] || {
    echo "no scripts found" >&2
    exit 1
}
for script in "${scripts[@]}"; do
    bash -n "$script"
done
if command -v shellcheck >/dev/null; then
    shellcheck -x "${scripts[@]}"
fi
echo "${#scripts[@]} scripts are fine: ${scripts[*]}"
