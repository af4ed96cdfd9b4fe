"""The model hub: whether it can be reached, and how libraries are kept from requests to it."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import urlsplit

from intramodal.errors import ModelError

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""For a connection: resolving a name and connecting, with a packet lost in each, takes less on any
network that could carry a model."""

_PORTS = {"http": 80, "https": 443}

_Outcomes = queue.SimpleQueue[str]
"""Why a connection failed; empty for one that was made."""

_why_silent: ContextVar[str] = ContextVar("why_silent", default="the hub did not respond")


def hub_address() -> str:
    """Return the address of the hub, as its own client would."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def is_switched_off() -> bool:
    """Return whether the environment forbids requests to the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def why_unreachable(url: str) -> str | None:
    """Return why no connection to a server, or to the proxy before it, can be made in 5 s.

    None where it can. No response is waited for: a slow server counts as reachable.
    """
    try:
        host, port = _peer(url)
    except ValueError:
        return None  # the client says what is wrong with the address
    outcomes: _Outcomes = queue.SimpleQueue()
    # In a thread of its own: nothing else bounds the wait for a name server.
    threading.Thread(target=_connect, args=(host, port, outcomes), daemon=True).start()
    try:
        reason = outcomes.get(timeout=PATIENCE_S)
    except queue.Empty:
        reason = f"no connection within {PATIENCE_S:.0f} s"
    return f"{urlsplit(url).hostname} cannot be reached ({reason})" if reason else None


def _peer(url: str) -> tuple[str, int]:
    """Return host and port of what is connected to; `ValueError` where there is none."""
    parts = urlsplit(url)
    proxies = {} if urllib.request.proxy_bypass(parts.netloc) else urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = parts.port or _PORTS.get(parts.scheme)
    if not parts.hostname or port is None:
        raise ValueError(f"{url} has no host or no port")
    return parts.hostname, port


def _connect(host: str, port: int, outcomes: _Outcomes) -> None:
    """Put one outcome for all addresses of a host, tried at once: one may lead nowhere."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        outcomes.put(_reason(error))
        return
    each: _Outcomes = queue.SimpleQueue()
    for *_, address in found:
        threading.Thread(target=_attempt, args=(address[:2], each), daemon=True).start()
    reason = ""
    for _ in found:
        reason = each.get()
        if not reason:
            break
    outcomes.put(reason)


def _attempt(address: tuple[str, int], outcomes: _Outcomes) -> None:
    try:
        socket.create_connection(address, timeout=PATIENCE_S).close()
    except OSError as error:
        outcomes.put(_reason(error))
    else:
        outcomes.put("")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Let libraries find downloaded files only, at once, where the hub cannot be reached.

    They try each file five times, half a minute in all.
    """
    why = "HF_HUB_OFFLINE is set" if is_switched_off() else why_unreachable(hub_address())
    if why is None:
        yield
        return
    log.info("%s; only downloaded models are looked at", why)
    token = _why_silent.set(why)
    try:
        with offline():
            yield
    finally:
        _why_silent.reset(token)


def not_downloaded(name: str, advice: str) -> ModelError:
    """Return the error of a model that is not on this machine, when no request is made."""
    return ModelError(
        f"model {name!r} is not completely downloaded, and {_why_silent.get()}; {advice}"
    )


def is_out_of_reach(repo: str) -> bool:
    """Return whether the hub is not asked, and nothing of a repository is on this machine.

    Where some of it is, only its library knows whether that is enough.
    """
    from huggingface_hub import constants, file_download

    # transformers had folders of its own before version 5.
    others = (os.environ.get(f"{of}TRANSFORMERS_CACHE") for of in ("", "PYTORCH_"))
    caches = [Path(cache) for cache in (constants.HF_HUB_CACHE, *others) if cache]
    name = file_download.repo_folder_name(repo_id=repo, repo_type="model")
    return bool(constants.HF_HUB_OFFLINE) and not any((path / name).is_dir() for path in caches)


def asked_hub(error: BaseException | None) -> bool:
    """Return whether a request to the hub that was refused or failed is behind an error."""
    while error is not None:
        if type(error).__name__ in ("OfflineModeIsEnabled", "LocalEntryNotFoundError"):
            return True
        error = error.__cause__ or error.__context__
    return False


class _Hub:
    """The client of the model hub, which all threads share, and who needs it to be silent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_offline = 0
        self._former = False

    def silence(self) -> None:
        with self._lock:
            if self._n_offline == 0:
                self._former = _set_offline(True)
            self._n_offline += 1

    def release(self) -> None:
        with self._lock:
            self._n_offline -= 1
            if self._n_offline == 0:
                _set_offline(self._former)


def _set_offline(is_offline: bool) -> bool:
    """Switch the client of the hub; return how it was. The environment stays as it is."""
    from huggingface_hub import constants, utils

    former = bool(constants.HF_HUB_OFFLINE)
    constants.HF_HUB_OFFLINE = is_offline
    # Before 1.0 a session keeps what it was made with.
    getattr(utils, "reset_sessions", lambda: None)()
    return former


_hub = _Hub()


@contextmanager
def offline() -> Iterator[None]:
    """Let no library ask the model hub meanwhile.

    That is for the whole process: a model that another thread loads by its hub name at the same
    moment is found in the cache only.
    """
    _hub.silence()
    try:
        yield
    finally:
        _hub.release()
