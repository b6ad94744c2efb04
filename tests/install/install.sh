#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the library to a temporary prefix, then builds and runs a program against it in all ways that
# the README names: install.sh BUILD_DIR SOURCE_DIR CC VERSION [COMPILER_FLAG]
set -eu
build=$1 source=$2 cc=$3 version=$4 extra=${5:-}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

cmake --install "$build/libclient" --prefix "$dir/usr" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
pc=$(find "$dir/usr" -name rtbridge.pc)
libdir=$(dirname "$(dirname "$pc")")

echo "== pkg-config"
flags=$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --cflags --libs rtbridge)
[ "$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --modversion rtbridge)" = "$version" ]
# shellcheck disable=SC2086
"$cc" $extra -DEXPECTED="\"$version\"" -o "$dir/by_pc" "$source/consumer/main.c" $flags
LD_LIBRARY_PATH=$libdir "$dir/by_pc"
# shellcheck disable=SC2086
LD_LIBRARY_PATH=$libdir ldd "$dir/by_pc" | grep -q "$dir/usr.*librtbridge.so.0\|librtbridge.so.0 => $dir"

echo "== find_package"
cmake -S "$source/consumer" -B "$dir/build" -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$dir/usr" \
	-DEXPECTED="$version" -DEXTRA="$extra" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
cmake --build "$dir/build" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
"$dir/build/shared"
"$dir/build/static"
if cmake -S "$source/consumer" -B "$dir/other" -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$dir/usr" \
	-DEXPECTED=0.999.0 >"$dir/log" 2>&1; then
	echo "a version that is not there was found"
	exit 1
fi

echo "== the command"
[ "$("$dir/usr/bin/rtbridge" --version)" = "rtbridge $version" ]
