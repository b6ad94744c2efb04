#!/bin/sh
# SPDX-License-Identifier: MIT
# The library exports what the public header declares, nothing else: exports.sh LIBRARY HEADER MAP
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

nm -D --defined-only --without-symbol-versions "$1" | awk '$2 != "A" { print $3 }' | sort >"$dir/library"
# A declaration: RTB_API at the start of a line, then up to the first "(" that follows a name.
tr '\n' ' ' <"$2" | grep -oE 'RTB_API [^;(]*\(' | grep -oE 'rtb_[a-z0-9_]+\($' | tr -d '(' | sort >"$dir/header"
grep -oE '^[[:space:]]+rtb_[a-z0-9_]+;' "$3" | tr -d '\t ;' | sort >"$dir/map"

[ "$(wc -l <"$dir/header")" -gt 20 ] || { echo "the header was not understood"; exit 1; }
diff -u "$dir/header" "$dir/library" && diff -u "$dir/header" "$dir/map"
soname=$(objdump -p "$1" | awk '$1 == "SONAME" { print $2 }')
[ "$soname" = librtbridge.so.0 ] || { echo "SONAME is $soname"; exit 1; }
