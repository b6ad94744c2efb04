/* SPDX-License-Identifier: MIT */
#pragma once
/* Words from outside (a server's, a client's) that people will read in logs and on terminals. */

/* Makes one line of valid UTF-8 without control characters (C0, DEL, C1) of it, in place: what is
 * none becomes '?', byte by byte; tabs and ends of lines become spaces. */
void text_clean(char *text);
