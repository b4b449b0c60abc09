"""Who has signed in, in memory alone: a restart signs everybody out."""

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

LASTS_S: Final = 12 * 3600.0
MOST: Final = 1000
"""Sessions that are kept; beyond them the oldest ends."""


@final
@dataclass(frozen=True, slots=True)
class _Session:
    credential: bytes
    ends_s: float


@final
class Sessions:
    """Sessions by their random ids. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, credential: bytes) -> str:
        """Begin a session for who shows a credential, and return its id."""
        session_id = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[session_id] = _Session(credential, self._clock() + LASTS_S)
            while len(self._sessions) > MOST:
                self._sessions.popitem(last=False)
        return session_id

    def credential(self, session_id: str) -> bytes:
        """Return what was shown when a session began; empty for one that is over, or never was."""
        with self._lock:
            found = self._sessions.get(session_id)
            if found is None:
                return b""
            if found.ends_s <= self._clock():
                del self._sessions[session_id]
                return b""
            return found.credential

    def end(self, session_id: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(session_id, None)

    def form_token(self, owner: bytes) -> str:
        """Return what the forms of one session or credential carry, which only its pages show."""
        return hmac.new(self._key, owner, hashlib.sha256).hexdigest()
