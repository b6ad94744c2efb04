# SPDX-License-Identifier: MIT
"""That no more rows come: they come in the order of their commits, so that a marker's row stands behind them."""

from .devserver import WsClient

NAME = "markers"
TOPIC = "realtime:markers"


class Markers:
    """A table and a WebSocket of their own; sql(text) runs SQL in the devserver's database.

    After wait() the server has passed on to every socket whatever was committed before it; the answer to a heartbeat on a
    socket then stands behind all of it.
    """

    def __init__(self, server, sql):
        self.sql = sql
        self.n = 0
        sql(f"create schema {NAME}; create table {NAME}.{NAME} (n int8 primary key);"
            f"alter publication supabase_realtime add table {NAME}.{NAME}; grant usage on schema {NAME} to service_role;"
            f"grant select on {NAME}.{NAME} to service_role")
        self.ws = WsClient(server.url, server.token("service_role"))
        self.ws.join(TOPIC, {"postgres_changes": [{"event": "INSERT", "schema": NAME, "table": NAME}]})
        said = self.ws.expect("system", TOPIC)[4]
        assert said["status"] == "ok", said

    def wait(self):
        self.n += 1
        self.sql(f"insert into {NAME}.{NAME} values ({self.n})")
        while self.ws.expect("postgres_changes", TOPIC)[4]["data"]["record"]["n"] != self.n:
            pass

    def close(self):
        self.ws.abort()
