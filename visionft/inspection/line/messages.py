"""Verdicts and events to others, as JSON: by POST to a web address, or to an MQTT broker (extra `mqtt`)."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import Request, urlopen

from visionft import __version__
from visionft.errors import ConfigError, DataError, first_line

TIMEOUT = 10.0  # seconds for one message
AGAIN = (408, 425, 429)  # answers that refuse, but not for ever


class Webhook:
    """One POST a message."""

    def __init__(self, address: str) -> None:
        if _split(address, "webhook", ("http", "https")).username:
            raise ConfigError("webhook= takes no user name and password; put a token into the address")
        self.address = address
        self.head = {"Content-Type": "application/json", "User-Agent": f"visionft/{__version__}"}

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Raises OSError where another attempt may succeed, DataError where none will."""
        try:
            with urlopen(Request(self.address, json.dumps(row).encode(), self.head), timeout=TIMEOUT) as answer:
                answer.read()
        except HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in AGAIN:
                raise DataError(f"the server refuses with {error.code} {error.reason}") from error
            raise
        except HTTPException as error:
            raise ConnectionError(first_line(error)) from error

    def close(self) -> None:
        """Nothing is open."""


class Mqtt:
    """Messages to the topic of an address such as mqtt://user:password@host:1883/line/3, delivered at least once."""

    def __init__(self, address: str) -> None:
        try:
            from paho.mqtt.client import CallbackAPIVersion, Client
        except ImportError as error:
            raise ConfigError('mqtt= needs paho-mqtt: pip install "visionft[mqtt]"') from error
        parts = _split(address, "mqtt", ("mqtt", "mqtts"))
        self.host, self.topic = str(parts.hostname), parts.path.strip("/")
        self.port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        if not self.topic:
            raise ConfigError(f"mqtt= names no topic: {parts.scheme}://{self.host}/TOPIC")
        self.client = Client(CallbackAPIVersion.VERSION2)
        if parts.username:
            self.client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            self.client.tls_set()
        self.joined, self.begun, self.answer = threading.Event(), False, "no answer"
        self.client.on_connect = self._joined

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Raises OSError when the broker has not taken it."""
        if not self.begun:
            self.client.connect(self.host, self.port)
            self.begun = True
            self.client.loop_start()
        if not self.joined.wait(TIMEOUT) or not self.client.is_connected():
            raise ConnectionError(f"no connection to {self.host}: {self.answer}")
        message = self.client.publish(self.topic, json.dumps(row), qos=1)
        try:
            message.wait_for_publish(TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise ConnectionError(first_line(error)) from error
        if not message.is_published():
            raise TimeoutError(f"{self.host} has not taken it in {TIMEOUT:g} s")

    def close(self) -> None:
        """Leave the broker."""
        self.client.disconnect()
        self.client.loop_stop()

    def _joined(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.answer = str(reason) if reason.is_failure else "it was lost"
        if not reason.is_failure:
            self.joined.set()


def _split(address: str, key: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        parts = urlsplit(address)
        fits = parts.scheme in schemes and parts.hostname and (parts.port is None or parts.port)
    except ValueError:  # a port that is no number
        fits = False
    if not fits:
        raise ConfigError(f"{key}= is an address that begins with {' or '.join(f'{one}://HOST' for one in schemes)}")
    return parts
