#!/bin/sh
# SPDX-License-Identifier: MIT
# install.sh FOLDER: installs the locked packages into FOLDER/node_modules, once per lock file.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
npm=${RTB_NPM:-npm}

mkdir -p "$folder"
if cmp -s "$here/package-lock.json" "$folder/installed.json"; then
	exit 0
fi
rm -f "$folder/installed.json"
cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$folder/"
cd "$folder"
"$npm" ci --ignore-scripts --no-audit --no-fund --loglevel=error
cp package-lock.json installed.json
