"""A quick look whether an address answers, because TFDS would try for minutes before it says that it does not."""

import socket
import threading
import urllib.parse
import urllib.request

PORTS = {'http': 80, 'https': 443}


def answers(url: str, seconds: float = 1.0) -> bool:
    """Whether the server of an http(s) address, or the proxy on the way to it, accepts a connection in this time.

    The look-up of the host's name may hang for longer than any time-out, hence the thread that nobody waits for.
    """
    host, port = _first_stop(url)
    connected = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
        except OSError:
            return
        connected.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return connected.is_set()


def _first_stop(url: str) -> tuple[str, int]:
    """Host and port of the first machine to connect to: the proxy's, where the environment names one."""
    target = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(target.scheme)
    if proxy and not urllib.request.proxy_bypass(target.netloc):
        target = urllib.parse.urlsplit(proxy if '://' in proxy else f'http://{proxy}')
    return target.hostname or '', target.port or PORTS.get(target.scheme, 80)
