"""Tokens: who may do what, and until when. The file holds only their hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

from crystallize_opt.service.access import Access
from crystallize_opt.service.refusal import Refusal
from crystallize_opt.service.store import ACTIVE, DELETED, Record, Store

KIND = "token"
_NOBODY = hashlib.sha256(b"").hexdigest()


def make_token(store: Store, access: Access, *, expires: float | None = None) -> tuple[str, Record]:
    """Make a token.

    It is random, so a plain hash is as good as a slow one.

    Args:
        store: The records.
        access: What its bearer may do.
        expires: When it ends, in seconds since 1970; None: never.

    Returns:
        The token, which is not stored; and its record.

    Example:
        >>> store = Store(None)
        >>> text, record = make_token(store, Access(experiment=3))
        >>> access_of(store, text).experiment
        3
        >>> store.close()
    """
    secret = secrets.token_urlsafe(32)
    data = {
        "hash": _hash(secret),
        "experiment": access.experiment,
        "read_only": access.read_only,
        "is_owner": access.is_owner,
        "created": time.time(),
        "expires": expires,
    }
    with store.writing():
        number = store.add(KIND, access.client, ACTIVE, data)
    return f"{number}_{secret}", Record(number, access.client, ACTIVE, data)


def access_of(store: Store, text: str | None) -> Access:
    """Return what the bearer of a token may do.

    Raises:
        Refusal: There is no token, or it is unknown, withdrawn or past its end.
    """
    if not text:
        raise Refusal(
            401,
            "Give a token as the user name of basic authentication, with an empty password. The "
            "server prints one when it makes its file; `crystallize-opt token` makes others.",
        )
    number, _, secret = text.partition("_")
    known = number.isascii() and number.isdigit() and len(number) < 19
    record = store.get(KIND, int(number)) if known else None
    expected = _NOBODY if record is None else record.data["hash"]
    if not hmac.compare_digest(expected, _hash(secret)) or record is None:
        raise Refusal(403, "This token is unknown. Check that it was copied whole.")
    if record.state == DELETED:
        raise Refusal(403, "This token was withdrawn. Ask for another one.")
    expires = record.data["expires"]
    if expires is not None and expires <= time.time():
        raise Refusal(403, "This token has ended. Ask for another one.")
    return Access(
        record.data["experiment"],
        record.data["read_only"],
        client=record.parent,
        is_owner=record.data["is_owner"],
        token=record.id,
        expires=expires,
    )


def withdraw(store: Store, record: Record) -> None:
    """Withdraw a token, within `store.writing`: it opens nothing any more."""
    store.put(KIND, record._replace(state=DELETED))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
