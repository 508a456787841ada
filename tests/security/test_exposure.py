"""Which addresses need protection."""

from __future__ import annotations

import pytest

from dtm.security.errors import Misconfigured
from dtm.security.exposure import Exposed, is_loopback, require_protection

TOKEN, TLS = "--token-file FILE", "--tls-cert FILE --tls-key FILE"


@pytest.mark.parametrize(
    ("address", "is_safe"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("128.0.0.1", False),
        ("169.254.1.1", False),
        ("fe80::1%eth0", False),
        ("2001:db8::1", False),
    ],
)
def test_only_loopback_is_out_of_reach(address: str, *, is_safe: bool) -> None:
    """A private network is a network."""
    assert is_loopback(address) is is_safe


@pytest.mark.parametrize(
    ("has_token", "has_tls", "missing"),
    [(False, False, [TOKEN, TLS]), (True, False, [TLS]), (False, True, [TOKEN]), (True, True, None)],
)
def test_reachable_needs_token_and_tls(*, has_token: bool, has_tls: bool, missing: list[str] | None) -> None:
    """The refusal names what is missing and each way out."""
    if missing is None:
        require_protection("10.0.0.7", ["10.0.0.7"], has_token=has_token, has_tls=has_tls)
        return
    with pytest.raises(Exposed, match=r"add .*127\.0\.0\.1.*--insecure") as refusal:
        require_protection("10.0.0.7", ["10.0.0.7"], has_token=has_token, has_tls=has_tls)
    assert refusal.value.missing == missing
    assert " and ".join(missing) in str(refusal.value)
    assert isinstance(refusal.value, Misconfigured)


def test_loopback_needs_nothing() -> None:
    """By each of its addresses."""
    require_protection("localhost", ["127.0.0.1", "::1"], has_token=False, has_tls=False)


def test_one_reachable_address_is_enough() -> None:
    """A name that means this machine and another one is refused by the address that makes it so."""
    with pytest.raises(Exposed, match=r"listen on tasks\.example \(10\.0\.0\.7\)"):
        require_protection("tasks.example", ["127.0.0.1", "10.0.0.7"], has_token=False, has_tls=False)
