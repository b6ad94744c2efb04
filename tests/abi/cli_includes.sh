#!/bin/sh
# SPDX-License-Identifier: MIT
# The command is written on the public header alone: cli_includes.sh DIR
set -eu
bad=$(grep -n '#include' "$1"/*.[ch] | grep -v '#include <' | grep -v '#include "cli.h"$' || true)
bad=$bad$(grep -nE '#include <(proto|libclient|daemon|msgpack)' "$1"/*.[ch] || true)
[ -z "$bad" ] || { echo "$bad"; exit 1; }
