"""Addresses as the reader's browser reaches them, where it sits on the other side of a proxy."""

import os
import re
from urllib.parse import urlsplit


def hub_path(port: int) -> str:
    """The path below which JupyterHub finds this port, or nothing where there is no hub.

    jupyter-server-proxy hands such a path on as it is, so a server that knows it links to itself.
    """
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    return f"/{prefix.strip('/')}/proxy/absolute/{port}".replace("//", "/") if prefix else ""


def as_link(address: str) -> str:
    """A server's address for a browser: each port has a host in Codespaces, a path in JupyterHub.

    A hub that does not say where it is gets a path alone, which a page completes by itself.
    """
    found = re.fullmatch(r"http://(?:127\.0\.0\.1|localhost):(\d+)(/.*)?", address)
    if not found:
        return address
    port, rest = int(found[1]), found[2] or ""
    if space := os.environ.get("CODESPACE_NAME"):
        domain = os.environ.get("GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN") or "app.github.dev"
        return f"https://{space}-{port}.{domain}{rest}"
    if path := hub_path(port):
        hub = urlsplit(os.environ.get("JUPYTERHUB_PUBLIC_URL", ""))
        return (f"{hub.scheme}://{hub.netloc}" if hub.netloc else "") + path + rest
    return address
