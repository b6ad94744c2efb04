#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs README.md as a reader would: its fenced blocks in order, in one shell.

    readme.py README CLONE

`console` blocks: lines that start with "$ " are commands, the lines below are the output expected, where a line "..." stands
for any lines and "..." inside a line for anything. Blocks of other languages whose first line is a comment that names a
file ("/* hello.c: ... */") are written to that file in the current directory of the shell.
"""

import os
import re
import subprocess
import sys
import tempfile

# What runs this test cannot be run by it; everything else is.
RUNS_THIS = {"scripts/test"}


def blocks(text):
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S):
        yield match.group(1), match.group(2)


def steps(text):
    """(command, expected output lines) of a console block."""
    found = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def line_matches(want, got):
    return re.fullmatch(".*".join(re.escape(part) for part in want.split("...")), got) is not None


def matches(want, got):
    """Whether the output has the lines wanted; "..." alone stands for any number of them."""
    if not want:
        return not got
    if want[0] == "...":
        return any(matches(want[1:], got[i:]) for i in range(len(got) + 1))
    return bool(got) and line_matches(want[0], got[0]) and matches(want[1:], got[1:])


class Shell:
    """One bash for all commands. What a command prints is read up to a marker that follows it."""

    def __init__(self, cwd):
        self.process = subprocess.Popen(["bash", "--norc", "--noprofile"], cwd=cwd, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.count = 0

    def run(self, command):
        self.count += 1
        marker = f"--readme-{self.count}--"
        self.process.stdin.write(f"{command}\nreadme_code=$?; echo; echo \"{marker} $readme_code\"\n")
        self.process.stdin.flush()
        lines = []
        while True:
            line = self.process.stdout.readline()
            if not line:
                return lines, -1
            if line.startswith(marker):
                break
            lines.append(line.rstrip("\n"))
        if lines and lines[-1] == "":
            lines.pop()  # the echo in front of the marker
        return lines, int(line.split()[1])

    def close(self):
        # Jobs that the text left behind must not outlive the test.
        self.process.stdin.write("kill $(jobs -p) 2>/dev/null; wait; exit\n")
        self.process.stdin.close()
        self.process.wait(60)


def follow(shell, text):
    """Whether all went as README.md shows. Ends at the first failure: loops that wait for its work would not end."""
    for language, body in blocks(text):
        if language != "console":
            name = re.match(r"(?:/\*|#|//)\s*([\w.]+)", body)
            if name:
                shell.run(f"cat > {name.group(1)} <<'README-EOF'\n{body}README-EOF")
            continue
        for command, want in steps(body):
            print(f"$ {command}", flush=True)
            if command in RUNS_THIS:
                print("(this is what is running)")
                continue
            got, code = shell.run(command)
            for line in got:
                print(line, flush=True)
            if code != 0 or (want and not matches(want, got)):
                print(f"FAILED: exit code {code}; README.md shows:\n" + "\n".join(want), flush=True)
                return False
    return True


def main():
    readme, clone = sys.argv[1:3]
    with open(readme) as f:
        text = f.read()
    os.environ["HOME"] = tempfile.mkdtemp(prefix="rtbridge-readme-")
    for name in ("RTBRIDGE_SOCKET", "XDG_RUNTIME_DIR"):
        os.environ.pop(name, None)
    shell = Shell(clone)
    is_right = follow(shell, text)
    shell.close()
    subprocess.run(["rm", "-rf", os.environ["HOME"]], check=False)
    sys.exit(0 if is_right else 1)


main()
