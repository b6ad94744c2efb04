# SPDX-License-Identifier: MIT
"""No file speaks of the place where it was written: paths of one machine, package hosts, papers beside the project."""

import os
import re

import tree

# In pieces, so that this file does not offend.
HOSTS = ["registry.npmjs" + ".org", "deb.debian" + ".org", "security.debian" + ".org", "files.pythonhosted" + ".org",
         "pypi" + ".org", "proxy.golang" + ".org"]
WORDS = re.compile("|".join(["hand" + "book", r"(?<![\w.$}-])/wo" + "rk/", *map(re.escape, HOSTS)]), re.I)
# Written by tools, with the addresses of what they locked.
LOCK_FILES = {"package-lock.json", "npm-shrinkwrap.json"}


def check(path, text):
    for n, line in enumerate(text.splitlines(), 1):
        for word in WORDS.findall(line):
            if os.path.basename(path) not in LOCK_FILES or not word.lower() in HOSTS:
                yield f"{path}:{n}: {word}"


def self_test():
    for word in ["the Hand" + "book", "see /wo" + "rk/x", *HOSTS]:
        assert list(check("a/b.c", f"x {word} y")), word
    assert not list(check("a/package-lock.json", HOSTS[0])) and not list(check("a.c", "tests/wo" + "rk/x"))


if __name__ == "__main__":
    self_test()
    files = tree.paths()
    tree.report([o for p in files for o in [*check(p, p), *check(p, tree.read(p))]], f"the words of {len(files)} files")
