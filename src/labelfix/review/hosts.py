"""Where the page is served, the names that it answers to, and the address that others can reach."""

import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from labelfix.errors import ConfigError

OWN_NAMES = frozenset({"127.0.0.1", "localhost"})
"""Always answered to, at any port, so that the page can be reached through a tunnel."""

_OUTWARD = ("192.0.2.1", "2001:db8::1")
"""Addresses that are kept for documentation: the system says by which of its own it would go there,
and nothing is sent."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the page is served.

    Args:
        address: What is listened on.
        shown: The host in the link, which others can reach if the page is shared.
        names: Names that a request may call this machine by.
        is_shared: Whether other machines can reach it.
    """

    address: str
    shown: str
    names: frozenset[str]
    is_shared: bool

    @property
    def family(self) -> socket.AddressFamily:
        """Return which kind of address it is."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    def link(self, port: int, key: str) -> str:
        """Return the address of the page, with the key in it."""
        host = f"[{self.shown}]" if ":" in self.shown else self.shown
        return f"http://{host}:{port}/?key={key}"

    def answers_to(self, host: str) -> bool:
        """Return whether a request may name a host: by any other, DNS rebinding may be at work.

        A shared page answers to every bare address. Behind one no name can be bound anew, and a
        machine does not know all of its own: a container is reached by that of its host.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.names or (self.is_shared and _is_address(name))


LOOPBACK = Place("127.0.0.1", "127.0.0.1", OWN_NAMES, is_shared=False)
"""This machine alone."""


def place_of(host: str | None) -> Place:
    """Return where to serve the page.

    Args:
        host: An address or a name of this machine, ``0.0.0.0`` for all of its addresses; ``None``
            is this machine alone.

    Raises:
        ConfigError: ``host`` is neither.
    """
    if host is None:
        return LOOPBACK
    address = _address_of(host)
    parsed = ipaddress.ip_address(address)
    names = OWN_NAMES | {host.lower(), address}
    if parsed.is_loopback:
        return Place(address, host, names, is_shared=False)
    own = socket.gethostname().lower()
    shown = _outward_address(address) or own if parsed.is_unspecified else host
    return Place(address, shown, names | {own, f"{own}.local"}, is_shared=True)


def _address_of(host: str) -> str:
    """Return an address by which others reach a name, if it has one."""
    try:
        if not host.strip():
            raise ValueError("there is nothing to look up")
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--host {host} is no address of this machine", hint=_which_to_name()
        ) from error
    addresses = [str(one[4][0]) for one in found]
    outside = [one for one in addresses if not ipaddress.ip_address(one).is_loopback]
    if not outside and host.lower() != "localhost" and not _is_address(host):
        raise ConfigError(
            f"--host {host} is {addresses[0]} here, which no other machine can reach",
            hint=_which_to_name(),
        )
    return [*outside, *addresses][0]


def refuse_address(place: Place, reason: str) -> ConfigError:
    """Return what is told where the system does not let anybody listen on an address."""
    return ConfigError(
        f"cannot listen on {place.shown} ({place.address}): {reason}", hint=_which_to_name()
    )


def _which_to_name() -> str:
    own = _outward_address("0.0.0.0")
    which = f"{own}, by which others reach this machine, or " if own else ""
    return f"name {which}0.0.0.0 for all of its addresses"


def _outward_address(wanted: str) -> str | None:
    """Return the address of this machine that others reach, ``None`` if it has no network."""
    for far in reversed(_OUTWARD) if ":" in wanted else _OUTWARD[:1]:
        family = socket.AF_INET6 if ":" in far else socket.AF_INET
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            return str(probe.getsockname()[0])
    return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
