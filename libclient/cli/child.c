/* SPDX-License-Identifier: MIT */
/* A command that runs beside: its start, the signals for it, its end. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"

int cli_child_start(const struct cli *cli, bool no_stdin, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r;

	/* Whoever started us may have it ignored: then we would not hear of the end. */
	(void)signal(SIGCHLD, SIG_DFL);
	r = posix_spawnattr_init(&attr);
	if (r != 0) {
		cli_error("cannot run %s: %s", cli->command[0], rtb_strerror(-r));
		return CLI_NO_EXEC;
	}
	r = posix_spawn_file_actions_init(&actions);
	if (r == 0) {
		r = posix_spawnattr_setsigmask(&attr, &cli->own_mask);
		if (r == 0)
			r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
		if (r == 0 && no_stdin)
			r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
							     O_RDONLY, 0);
		if (r == 0)
			r = posix_spawnp(ret, cli->command[0], &actions, &attr, cli->command,
					 environ);
		(void)posix_spawn_file_actions_destroy(&actions);
	}
	(void)posix_spawnattr_destroy(&attr);
	if (r == 0)
		return 0;
	cli_error("cannot run %s: %s", cli->command[0], rtb_strerror(-r));
	return r == ENOENT ? CLI_NOT_FOUND : CLI_NO_EXEC;
}

int cli_child_signal(pid_t pid, const struct signalfd_siginfo *info)
{
	int status;

	if (info->ssi_signo != SIGCHLD) {
		/* What the terminal sends (Ctrl-C) it sends to the command as well; but that it
		 * was hung up, to the leader of the session alone. */
		if (info->ssi_code != SI_KERNEL || info->ssi_signo == SIGHUP)
			(void)kill(pid, (int)info->ssi_signo);
		return -1;
	}
	if (waitpid(pid, &status, WNOHANG) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : CLI_SIGNAL + WTERMSIG(status);
}
