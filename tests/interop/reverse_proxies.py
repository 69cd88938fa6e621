"""Reverse proxies in front of a hub: processes of their own, from a configuration made here."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.ports import reserved_port
from tests.support.timing import eventually

IDLE_SECONDS: Final = 2
"""After so long without a byte both cut a connection, unless told otherwise."""

NGINX: Final = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{target}; proxy_http_version 1.1; proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
      proxy_read_timeout {idle}s; proxy_send_timeout {idle}s; proxy_buffering off;
    }}
  }}
}}
"""

HAPROXY: Final = """global
  maxconn 512
defaults
  mode http
  timeout connect 2s
  timeout client {idle}s
  timeout server {idle}s
  timeout tunnel {idle}s
frontend front
  bind 127.0.0.1:{port}
  default_backend hub
backend hub
  server hub 127.0.0.1:{target}
"""

CONFIGURATIONS: Final = {"nginx": NGINX, "haproxy": HAPROXY}

_UPGRADE: Final = "Upgrade $http_upgrade; proxy_set_header"
FORWARDING: Final = {
    "nginx": NGINX.replace(_UPGRADE, f"X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header {_UPGRADE}"),
    "haproxy": HAPROXY.replace("  mode http\n", "  mode http\n  option forwardfor\n"),
}
"""They say whom they forward for."""

BARE: Final = {
    "nginx": re.sub(r"proxy_http_version 1.1;|proxy_set_header [^;]+;", "", NGINX).replace("proxy_buffering off;", ""),
}
"""What one line, ``proxy_pass``, makes of it: the hub's own address in Host, and no word of whom it is for."""


class ReverseProxy:
    """One of them, in front of a port. Use :func:`reverse_proxy`."""

    def __init__(self, name: str, program: str, folder: Path, port: int, configuration: str) -> None:
        self.port = port
        config = folder / f"{name}.conf"
        config.write_text(configuration)
        self._command = {
            "nginx": [program, "-c", str(config)],
            "haproxy": [program, "-db", "-f", str(config)],
            "caddy": [program, "run", "--adapter", "caddyfile", "--config", str(config)],
        }[name]
        self._process: subprocess.Popen[bytes] | None = None
        self._env = os.environ | {"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}  # caddy writes there

    def start(self) -> None:
        """Run it, and wait until it listens."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, start_new_session=True, env=self._env
        )
        eventually(self._listens, "the reverse proxy listens")

    def stop(self) -> None:
        """Kill it with all its workers; connections are cut."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self._command[0]} ended with {self._process.returncode}"
        with socket.socket() as attempt:
            attempt.settimeout(1)
            return attempt.connect_ex(("127.0.0.1", self.port)) == 0


def program_of(name: str) -> str:
    """Where a reverse proxy is installed; skips where it is not, but not in CI."""
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        reason = f"no {name} on the path: make deps-debian installs it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return program


@contextmanager
def reverse_proxy(
    name: str, target: int, configurations: Mapping[str, str] = CONFIGURATIONS, *, idle: int = IDLE_SECONDS
) -> Iterator[ReverseProxy]:
    """nginx or haproxy in front of a port of this machine; skipped where it is not installed, but not in CI.

    Args:
        idle: seconds without a byte after which it cuts a connection.
    """
    program = program_of(name)
    with tempfile.TemporaryDirectory(prefix="trunkline-proxy-") as folder, reserved_port() as port:
        Path(folder).chmod(0o755)
        configuration = configurations[name].format(folder=folder, port=port, target=target, idle=idle)
        proxy = ReverseProxy(name, program, Path(folder), port, configuration)
        proxy.start()
        try:
            yield proxy
        finally:
            proxy.stop()
