"""Servers and brokers are told every verdict in order; one that is dead delays nothing."""

from __future__ import annotations

import json
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.unit.inspection.line.standins import Shades, frames, opener, rows, watched
from visionft.errors import ConfigError
from visionft.inspection.line.messages import Mqtt, Webhook


class Server:
    """A web server on this machine that keeps what it is told, and answers so."""

    def __init__(self, answers: Callable[[int], int] = lambda count: 200) -> None:
        self.rows: list[dict[str, Any]] = []
        asked = [0]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805  # the server's self is the outer one
                data = handler.rfile.read(int(handler.headers["Content-Length"]))
                asked[0] += 1
                code = answers(asked[0])
                if code == 200:
                    self.rows.append(json.loads(data))
                handler.send_response(code)
                handler.end_headers()

            def log_message(handler, *args: Any) -> None:  # noqa: N805
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/line?token=7"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def begin(*args: Any) -> Server:
        servers.append(Server(*args))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


@pytest.mark.usefixtures("quick")
def test_a_server_is_told_every_verdict_in_order_although_it_fails_at_times(film, tmp_path, serve):
    server = serve(lambda count: 503 if count in (3, 4, 9) else 200)
    watched(film, webhook=server.address, out=str(tmp_path / "line"))
    assert [row["frame"] for row in server.rows if "verdict" in row] == frames(tmp_path / "line")
    assert server.rows[-1]["event"] == "ended" and server.rows[-1]["parts"] == 12
    said = {row["event"] for row in rows(tmp_path / "line") if "event" in row}
    assert said == {"webhook failing", "webhook working again", "ended"}


def test_only_rejects_and_events_are_sent_if_so_asked(film, serve):
    server = serve()
    watched(film, webhook=server.address, send="rejects")
    assert [row.get("verdict") for row in server.rows] == ["reject"] * 6 + [None]


@pytest.mark.usefixtures("quick")
def test_a_dead_server_delays_nothing_and_what_it_missed_is_counted(serve, tmp_path):
    server = serve()
    server.close()
    began = time.monotonic()
    found = watched(opener(Shades([60] * 30, 0.001)), webhook=server.address, stop_after=30, buffer=99)
    assert found.parts == 30 and found.p50_ms < 100 and time.monotonic() - began < 5
    assert found.given_up == {"webhook": 32}  # with the event that it fails, and the summary


@pytest.mark.usefixtures("quick")
def test_a_server_that_refuses_is_not_asked_again_for_the_same(film, tmp_path, serve):
    server = serve(lambda count: 404 if count == 2 else 200)
    found = watched(film, webhook=server.address, out=str(tmp_path / "line"))
    assert found.given_up == {"webhook": 1}
    (event,) = (row for row in rows(tmp_path / "line") if row.get("event") == "webhook given up")
    assert "refuses with 404" in event["text"]


@pytest.mark.parametrize(
    ("kind", "address", "said"),
    [
        (Webhook, "ftp://host/x", "webhook= is an address that begins with http://HOST or https://HOST"),
        (Webhook, "file:///etc/passwd", "webhook="),
        (Webhook, "http://me:secret@host/", "takes no user name"),
        (Webhook, "http://host:port/", "webhook="),
        (Mqtt, "http://host/topic", "mqtt= is an address that begins with mqtt://HOST or mqtts://HOST"),
        (Mqtt, "mqtt://me:secret@host", "names no topic: mqtt://host/TOPIC"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused_without_its_password(kind, address, said):
    pytest.importorskip("paho.mqtt.client")
    with pytest.raises(ConfigError) as refused:
        kind(address)
    assert said in str(refused.value) and "secret" not in str(refused.value)


def test_a_broker_is_told_every_verdict(film, tmp_path):
    pytest.importorskip("paho.mqtt.client")
    told: list[tuple[str, dict[str, Any]]] = []

    class Broker(socketserver.StreamRequestHandler):
        """As much of MQTT 3.1.1 as takes messages."""

        def handle(self) -> None:
            while head := self.rfile.read(1):
                size, shift = 0, 0
                while True:
                    (byte,) = self.rfile.read(1)
                    size, shift = size | (byte & 127) << shift, shift + 7
                    if byte < 128:
                        break
                data, kind = self.rfile.read(size), head[0] >> 4
                if kind == 1:
                    self.wfile.write(b"\x20\x02\x00\x00")
                elif kind == 3:
                    (long,) = struct.unpack(">H", data[:2])
                    told.append((data[2 : 2 + long].decode(), json.loads(data[4 + long :])))
                    self.wfile.write(b"\x40\x02" + data[2 + long : 4 + long])
                elif kind == 14:
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Broker) as broker:
        broker.daemon_threads = True
        threading.Thread(target=broker.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        found = watched(film, mqtt=f"mqtt://127.0.0.1:{broker.server_address[1]}/line/3", out=str(tmp_path / "line"))
        broker.shutdown()
    assert found.given_up == {} and {topic for topic, _ in told} == {"line/3"}
    assert [row["frame"] for _, row in told if "verdict" in row] == frames(tmp_path / "line")


@pytest.mark.usefixtures("quick")
def test_a_dead_broker_delays_nothing(film, serve, tmp_path):
    pytest.importorskip("paho.mqtt.client")
    server = serve()
    server.close()
    port = server.server.server_port
    found = watched(film, mqtt=f"mqtt://127.0.0.1:{port}/line", out=str(tmp_path / "line"))
    assert found.parts == 12 and found.given_up == {"mqtt": 14}
    assert "refused" in next(row["text"] for row in rows(tmp_path / "line") if row.get("event") == "mqtt failing")
