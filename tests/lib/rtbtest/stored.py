# SPDX-License-Identifier: MIT
"""Stories of messages that the database sends to private channels, which the server stores."""

import time

from .sends import Sends
from .wait import until


def wall_ms():
    return int(time.time() * 1000)


class Stored(Sends):
    """Without a database: the devserver's db_send stands for realtime.send()."""

    def store(self, topic, numbers, event="e", **members):
        """Stored, and not passed on, unless members say otherwise."""
        for n in numbers:
            self.server.db_send(topic, event, {"n": n, "id": f"{topic}:{n}"}, **{"deliver": False, **members})

    def send_live(self, topic, numbers, event="e"):
        """Stored and passed on, as the database does it."""
        self.store(topic, numbers, event, deliver=True)

    @staticmethod
    def replay(since=0, limit=None, **broadcast):
        """The broadcast parameter of a subscription that asks for what is stored since then."""
        wish = {"since": since} if limit is None else {"since": since, "limit": limit}
        return dict(broadcast, replay=wish)

    @staticmethod
    def told(peer, topic):
        """What has come about a topic, in its order: numbers, those replayed as strings, and notices as (method, ...)."""
        found = []
        for method, n in peer.notices:
            if n.get("topic") != topic:
                continue
            if method == "broadcast":
                number = n["payload"]["n"] if isinstance(n["payload"], dict) else n["payload"]
                found.append(str(number) if n.get("meta", {}).get("replayed") else number)
            elif method in ("gap", "replay"):
                found.append((method, n["stored"], n["n"]))
            elif method == "channel":
                found.append((method, n["state"]))
            else:
                found.append((method,))
        return found

    def told_now(self, peer, topic):
        """The same, after what the server has sent to the daemon by now; taken."""
        peer.sync(upstream=True)
        found = self.told(peer, topic)
        peer.notices = [(m, n) for m, n in peer.notices if n.get("topic") != topic]
        return found

    def replayed(self, peer, topic):
        """The same, after the end of a replay was told: one aside comes after the answer."""
        until(lambda: self.has_come(peer, "replay", topic), f"the end of a replay of {topic}")
        return self.told_now(peer, topic)

    @staticmethod
    def has_come(peer, method, topic):
        peer.drain()
        return any(m == method and n["topic"] == topic for m, n in peer.notices)


def strings(numbers):
    return [str(n) for n in numbers]
