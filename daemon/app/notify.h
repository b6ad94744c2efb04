/* SPDX-License-Identifier: MIT */
#pragma once
/* notify: what the service manager is told. Does nothing when there is none. */

void notify_ready(void); /* also the end of a reload */
void notify_reloading(void);
void notify_stopping(void);
/* One line for `systemctl status`. */
void notify_status(const char *line);
