# SPDX-License-Identifier: MIT
"""The files of the project: what git tracks, or, in a tree that is no clone, what is there."""

import os
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
NOT_OURS = {".git", "build", "node_modules", "__pycache__", ".cache"}


def walk():
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(set(folders) - NOT_OURS)
        for name in sorted(names):
            yield os.path.relpath(os.path.join(folder, name), ROOT)


def paths(*suffixes):
    """Relative to the root, with one of the suffixes (all: without any)."""
    git = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=False)
    listed = os.fsdecode(git.stdout).split("\0") if git.returncode == 0 else walk()
    return [p for p in listed if os.path.isfile(os.path.join(ROOT, p)) and (not suffixes or p.endswith(suffixes))]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def report(offences, what):
    """Ends the program: with 0 and a sentence, or with 1 and the offences."""
    for offence in offences:
        print(offence)
    print(f"{len(offences)} offences in {what}" if offences else f"{what}: nothing to say")
    sys.exit(1 if offences else 0)
