/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "app/app.h"

enum {
	EXIT_USAGE = 2,
	EXIT_CONFIG = 78, /* as sysexits: systemd need not restart into the same error */
};

#define DEFAULT_CONFIG "/etc/rtbridge/rtbridged.conf"

static const char usage[] =
	"usage: rtbridged [--config FILE] [--socket PATH] [--log-level LEVEL] [--check]\n"
	"\n"
	"Holds one Supabase Realtime connection and shares it with local processes.\n"
	"\n"
	"  --config FILE      configuration, and FILE.d/*.conf (" DEFAULT_CONFIG ")\n"
	"  --socket PATH      where to listen, instead of [socket] path\n"
	"  --log-level LEVEL  error, warning, notice, info or debug\n"
	"  --check            read the configuration, print what follows from it, exit\n"
	"  --version, --help\n";

struct options {
	struct conf_source source;
	bool check;
};

/* Return: -1 to go on, else the exit code. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "socket", required_argument, NULL, 's' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "check", no_argument, NULL, 'k' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "c:s:h", longs, NULL)) != -1) {
		switch (opt) {
		case 'c':
			o->source.path = optarg;
			break;
		case 's':
			o->source.socket_path = optarg;
			break;
		case 'l':
			o->source.log_level = optarg;
			break;
		case 'k':
			o->check = true;
			break;
		case 'V':
			printf("rtbridged %s\n", RTB_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		default:
			fputs(usage, stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "rtbridged: unexpected argument \"%s\"\n%s", argv[optind], usage);
		return EXIT_USAGE;
	}
	return -1;
}

/* Who starts us without standard streams would else see a socket or a key's file under their
 * numbers, and log lines written into it. */
static void open_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* Keys are in memory: nobody but root looks into it, and no core is written. */
static void guard_process(void)
{
	struct rlimit none = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0);
}

/* All is done and only taken apart: a signal that comes now must not turn a good end into a bad
 * one. */
static void end_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}

static int run(struct conf *conf, const struct conf_source *source)
{
	struct conf_text text;
	struct app *app;
	int r;

	r = app_new(conf, source, &app, &text);
	if (r < 0) {
		log_error("%s", text.text);
		return EXIT_FAILURE;
	}
	r = app_run(app);
	end_signals();
	app_free(app);
	if (r < 0)
		log_error("the event loop broke: %s", strerror(-r));
	else
		log_notice("stopped");
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct options o = { .source.path = DEFAULT_CONFIG };
	struct conf_text text;
	struct conf conf;
	int r;

	open_streams();
	r = parse_options(argc, argv, &o);
	if (r >= 0)
		return r;
	guard_process();
	log_init();
	r = conf_load(&o.source, &conf, &text);
	if (r < 0) {
		fprintf(stderr, "rtbridged: %s\n", text.text);
		r = EXIT_CONFIG;
	} else if (o.check) {
		conf_print(&conf, time(NULL));
		r = EXIT_SUCCESS;
	} else {
		log_set_level(conf.log_level);
		for (unsigned i = 0; conf_warning(&conf, i, time(NULL), &text); i++)
			log_warning("%s", text.text);
		r = run(&conf, &o.source);
	}
	conf_done(&conf);
	return r;
}
