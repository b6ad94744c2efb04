# SPDX-License-Identifier: MIT
"""Clocks that a test moves under a running rtbridged.

    clocks = Clocks(bin)
    daemon = Daemon(..., env=clocks.env)
    clocks.sleep(60)        the machine slept for a minute: CLOCK_BOOTTIME is ahead, CLOCK_MONOTONIC is not
    clocks.set_wall(-3600)  somebody set the clock: CLOCK_REALTIME, in seconds from the true one
    clocks.close()
"""

import mmap
import os
import struct
import tempfile


class Clocks:
    def __init__(self, folder):
        shim = os.path.join(folder, "clockshim.so")
        self.file = tempfile.NamedTemporaryFile(prefix="rtbridge-clocks-")
        self.file.write(bytes(16))
        self.file.flush()
        self.map = mmap.mmap(self.file.fileno(), 16)
        self.slept_ms = 0
        # The sanitizer wants to come first and need not: the shim asks for the next clock, which is the sanitizer's.
        options = os.environ.get("ASAN_OPTIONS", "")
        self.env = {"LD_PRELOAD": shim, "RTB_CLOCKS": self.file.name,
                    "ASAN_OPTIONS": f"{options}:verify_asan_link_order=0".lstrip(":")}

    def _put(self, at, ms):
        self.map[at:at + 8] = struct.pack("=q", int(ms))

    def sleep(self, seconds):
        self.slept_ms += seconds * 1000
        self._put(0, self.slept_ms)

    def set_wall(self, seconds):
        self._put(8, seconds * 1000)

    def close(self):
        self.map.close()
        self.file.close()
