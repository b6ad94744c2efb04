# SPDX-License-Identifier: MIT
"""SIGHUP: the configuration is read anew and checked wholly; then all of it that can change does, or nothing."""

import os
import pwd
import signal
import unittest

from rtbtest.peer import RequestError
from rtbtest.story import Story
from rtbtest.wait import until

FORBIDDEN = 301


class Reload(Story):
    def setUp(self):
        self.d = self.enterContext(self.another(log_level="notice"))
        self.url = self.server.url

    def write(self, **sections):
        """The configuration as it was at the start, with these sections over it."""
        base = {"upstream": {"url": self.url, "apikey_file": self.d.key_file, "vsn": self.vsn, "backoff_min": "50ms",
                             "backoff_max": "400ms"},
                "socket": {"path": self.d.socket}, "log": {"level": "notice"}}
        self.d.write_config(base, sections)

    def drop_in(self, name, text):
        os.makedirs(self.d.config + ".d", exist_ok=True)
        with open(os.path.join(self.d.config + ".d", name), "w") as f:
            f.write(text)

    def reload(self):
        """Returns what was logged by it."""
        ready, size = self.count("READY=1"), len(self.d.log_text())
        self.d.process.send_signal(signal.SIGHUP)
        until(lambda: self.count("READY=1") > ready, "the daemon has reloaded")
        return self.d.log_text()[size:]

    def count(self, word):
        with self.d.news:
            return sum(word in message for message in self.d.statuses)

    def broadcast(self, peer, topic):
        """Its outcome, or the error's code."""
        try:
            return peer.broadcast(topic, "e", {}, via="ws")["outcome"]
        except RequestError as e:
            return e.code

    def test_rules_come_and_go(self):
        peer = self.peer(self.d)
        self.assertEqual(self.broadcast(peer, "sealed"), "acked")
        self.write(access={"rule": ["deny * write topic sealed", "allow * write topic *"]})
        self.assertIn("2 access rules", self.reload())
        self.assertEqual(self.broadcast(peer, "sealed"), FORBIDDEN)
        self.assertEqual(self.broadcast(peer, "open"), "acked")
        self.drop_in("10.conf", "[access]\nrule = deny * write topic other\n")
        self.write(access={"rule": "deny * write topic sealed"})
        self.assertIn("2 access rules", self.reload())
        self.assertEqual(self.broadcast(peer, "sealed"), FORBIDDEN)
        self.assertEqual(self.broadcast(peer, "other"), FORBIDDEN)
        os.unlink(os.path.join(self.d.config + ".d", "10.conf"))
        self.write()
        self.assertIn("0 access rules", self.reload())
        self.assertEqual(self.broadcast(peer, "sealed"), "acked")

    def test_what_is_wrong_changes_nothing(self):
        peer = self.peer(self.d)
        rules = ["deny * write topic sealed", "allow * write topic *"]
        self.write(access={"rule": rules})
        self.reload()
        wrong = [
            ({"access": {"rule": ["allow * write topic sealed", "allow nobody read topic x"]}}, ":13: [access] rule: "),
            ({"access": {"rule": "allow user has-no-such-name admin"}}, "no user \"has-no-such-name\""),
            ({"access": {"identity": "mine"}}, "[access] identity: "),
            ({"access": {"rules": "allow * admin"}}, "[access] has no key \"rules\""),
            ({"log": {"level": "loud"}}, "[log] level: "),
            ({"limits": {"links": "9"}}, "[limits] links: "),
            ({"upstream": {"apikey_file": "/nonexistent/key"}}, "/nonexistent/key"),
            ({"upstream": {"backoff_min": "1s"}, "log": {"level": "debug"}}, "backoff_min is longer"),
        ]
        for sections, words in wrong:
            with self.subTest(words=words):
                self.write(**sections)
                said = self.reload()
                self.assertIn(self.d.config + (words if words[0] == ":" else ":"), said)
                self.assertIn(words, said)
                self.assertIn("stays as it was", said)
                self.assertNotIn("log level", said)
                self.assertEqual(self.broadcast(peer, "sealed"), FORBIDDEN)
                self.assertEqual(self.broadcast(peer, "open"), "acked")
        os.unlink(self.d.config)
        self.assertIn("no such file", self.reload())
        self.assertEqual(self.broadcast(peer, "sealed"), FORBIDDEN)
        # A drop-in is named by its own name.
        self.write(access={"rule": rules})
        self.drop_in("20.conf", "[log]\n\nlevel = loud\n")
        self.assertIn("20.conf:3: [log] level: ", self.reload())
        self.drop_in("20.conf", "")
        self.assertIn("2 access rules", self.reload())

    def test_log_level(self):
        def lines(name):
            """What the log says of a client that comes and goes; the answer to its `status` comes behind its attaching."""
            with self.peer(self.d, name=name) as peer:
                peer.status()
            return self.d.log_text().count(name)

        self.assertEqual(lines("quiet-before"), 0)
        self.write(log={"level": "info"})
        self.assertIn("log level info", self.reload())
        self.assertGreater(lines("seen-now"), 0)
        self.write(log={"level": "error"})
        self.assertEqual(self.reload(), "")
        self.assertEqual(lines("quiet-after"), 0)
        # What is wrong is heard at every level.
        self.write(log={"level": "loud"})
        self.assertIn("[log] level: ", self.reload())

    def test_what_needs_a_restart_is_named(self):
        peer = self.peer(self.d)
        needs = "changed and not in force before a restart: "
        self.assertNotIn(needs, self.reload())
        self.write(upstream={"url": "http://127.0.0.1:1", "probation": "off"}, limits={"links": "1"},
                   access={"rule": "allow * admin"})
        for _ in range(2):
            said = self.reload()
            self.assertIn(needs + "[upstream] url, [upstream] probation, [limits] links\n", said)
            self.assertIn("1 access rules", said)
        # The link is that of the start.
        self.assertEqual(self.broadcast(peer, "t"), "acked")
        self.assertEqual(peer.status()["connection"]["state"], "online")
        self.write()
        self.d.write_key("another.key.entirely")
        said = self.reload()
        self.assertIn("holds another key: it is used from now on", said)
        self.assertNotIn(needs, said)
        self.assertNotIn("another.key", self.d.log_text())

    def test_names_of_who_is_attached_already(self):
        """No rule needed names when this client came."""
        name, peer = pwd.getpwuid(os.getuid()).pw_name, self.peer(self.d)
        self.assertEqual(self.broadcast(peer, f"box:{name}"), "acked")
        self.write(access={"rule": ["deny * write topic box:%u", "allow * write topic *"]})
        self.reload()
        self.assertEqual(self.broadcast(peer, f"box:{name}"), FORBIDDEN)
        self.assertEqual(self.broadcast(peer, f"box:{name}2"), "acked")
        self.assertEqual(self.broadcast(self.peer(self.d), f"box:{name}"), FORBIDDEN)

    @unittest.skipUnless(os.geteuid() == 0, "only root may choose its groups")
    def test_further_groups(self):
        """The kernel's word counts, as it was when the client connected."""
        self.write(access={"rule": ["deny group 7654321 write topic *", "allow * write topic *"]})
        self.reload()
        groups, before = os.getgroups(), self.peer(self.d)
        self.addCleanup(os.setgroups, groups)
        os.setgroups([5] + list(range(7654222, 7654322)))
        member = self.peer(self.d)
        self.assertEqual(self.broadcast(before, "t"), "acked")
        os.setgroups(groups)
        self.assertEqual(self.broadcast(member, "t"), FORBIDDEN)
        self.assertEqual(self.broadcast(self.peer(self.d), "t"), "acked")

    def test_many_in_a_row(self):
        """Each is carried out wholly; the last one decides."""
        peer = self.peer(self.d)
        for i in range(20):
            self.write(access={"rule": ["deny * write topic sealed", "allow * write topic *"] if i % 2 else []})
            self.d.process.send_signal(signal.SIGHUP)
        until(lambda: self.broadcast(peer, "sealed") == FORBIDDEN, "the last rules are in force")
        self.assertEqual(self.broadcast(peer, "open"), "acked")


if __name__ == "__main__":
    unittest.main()
