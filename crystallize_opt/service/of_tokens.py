"""Requests about tokens."""

from __future__ import annotations

import time

from crystallize_opt.service import wire
from crystallize_opt.service.access import Access
from crystallize_opt.service.given import Given
from crystallize_opt.service.pages import page_of
from crystallize_opt.service.refusal import Refusal, bad, missing
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import ACTIVE, Record
from crystallize_opt.service.tokens import KIND, make_token, withdraw

_LEASE = 30 * 86400
"""Seconds that a token lasts, unless the request says more."""
_KNOWN = {"client", "experiment", "permissions", "lease_length", "lasts_forever"}


def create(service: Service, request: Request) -> wire.Json:
    """Make a token: of a client, or for one experiment."""
    given = request.given("the token")
    given.refuse_unknown(_KNOWN)
    client = given.integer("client", low=1) or request.access.client
    experiment = given.integer("experiment", low=1)
    if client != request.access.client and not request.access.is_owner:
        raise Refusal(403, "Only the owner of the file makes tokens of other clients.")
    if experiment is not None:
        found = service.store.get("experiment", experiment, client)
        if found is None:
            raise missing(f"The client {client} has no experiment {experiment}.")
    return _made(service, request, given, Access(experiment, client=client))


def create_for_experiment(service: Service, request: Request) -> wire.Json:
    """Make a token for one experiment."""
    experiment = service.experiment(request.ids[0])
    given = request.given("the token")
    given.refuse_unknown(_KNOWN - {"client", "experiment"})
    return _made(service, request, given, Access(experiment.id, client=experiment.parent))


def _made(service: Service, request: Request, given: Given, access: Access) -> wire.Json:
    if request.access.experiment is not None:
        raise Refusal(403, "A token for one experiment makes no other tokens.")
    default = "write" if access.experiment is None else "read"
    permissions = given.choice("permissions", ("read", "write")) or default
    lease, forever = given.integer("lease_length", low=1), given.boolean("lasts_forever")
    if lease is not None and forever:
        raise bad("Give `lease_length` or `lasts_forever`, not both.")
    expires = None if forever else time.time() + (lease or _LEASE)
    if request.access.expires is not None:  # No token outlasts the one that made it.
        expires = min(request.access.expires, expires or request.access.expires)
    made = Access(access.experiment, permissions == "read", client=access.client)
    text, record = make_token(service.store, made, expires=expires)
    return {**_shown(record), "token": text}


def fetch(service: Service, request: Request) -> wire.Json:
    """Return what is known of a token; `self` is the one of the request."""
    if request.ids[0] == "self" and not request.access.token:
        return _shown(_in_process(request.access))
    return _shown(_found(service, request))


def fetch_all(service: Service, request: Request) -> wire.Json:
    """Return a page of the client's tokens."""
    return page_of(request.given(), service.store, KIND, request.access.client, (ACTIVE,), _shown)


def delete(service: Service, request: Request) -> wire.Json:
    """Withdraw a token."""
    with service.store.writing():
        withdraw(service.store, _found(service, request))
    return {}


def _found(service: Service, request: Request) -> Record:
    access, text = request.access, request.ids[0]
    number = access.token if text == "self" else text
    if not number:
        raise missing("There are no tokens in this process: everything is allowed.")
    return service.child(KIND, number, None if access.is_owner else access.client)


def _in_process(access: Access) -> Record:
    """Return what a token would say that allows what a request in this process may do."""
    data = {"experiment": access.experiment, "read_only": access.read_only, "expires": None}
    return Record(0, access.client, ACTIVE, data)


def _shown(record: Record) -> wire.Json:
    data = record.data
    return {
        "object": "token",
        "id": str(record.id),
        "token": None,  # Only its hash is stored.
        "token_type": "client" if data["experiment"] is None else "guest",
        "client": str(record.parent),
        "experiment": wire.number(data["experiment"]),
        "all_experiments": data["experiment"] is None,
        "permissions": "read" if data["read_only"] else "write",
        "expires": None if data["expires"] is None else int(data["expires"]),
        "development": False,
        "user": None,
    }


ROUTES = (
    route("POST", "tokens", create, status=201),
    route("GET", "tokens", fetch_all),
    route("GET", "tokens/{}", fetch),
    route("DELETE", "tokens/{}", delete),
    route("POST", "experiments/{}/tokens", create_for_experiment, status=201),
)
