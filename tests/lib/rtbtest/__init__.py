# SPDX-License-Identifier: MIT
"""What the integration tests share: the devserver, the daemon, a local client, deadlines."""
