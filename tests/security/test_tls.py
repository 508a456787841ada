"""TLS files: what a context is made of, and in which words a wrong one is refused."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dtm.security.errors import Misconfigured
from dtm.security.tls import client_tls, pinned_tls, reason_of, server_tls
from tests.certificates import Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority."""
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    """A certificate of it."""
    return authority.issue()


def test_without_files_there_is_no_tls() -> None:
    """A server speaks it if it has a certificate."""
    assert server_tls(None, None, None) is None


def test_a_server_knows_its_own_certificate(authority: Authority, pair: Pair) -> None:
    """The first of its file, whatever stands before and below it; that is what the handshake signs."""
    with pair.cert.open("a") as file:
        file.write(authority.file.read_text())
    pair.cert.write_text(f"Bag Attributes: ä\n{pair.cert.read_text()}")
    found = server_tls(pair.cert, pair.key, None)

    assert found is not None
    assert found.certificate == pair.der
    assert not found.demands_certificate
    assert found.context.verify_mode is ssl.CERT_NONE


def test_a_server_may_demand_certificates(authority: Authority, pair: Pair) -> None:
    """Those that it did not ask for are not looked at, those that do not hold end the handshake."""
    found = server_tls(pair.cert, pair.key, authority.file)

    assert found is not None
    assert found.demands_certificate
    assert found.context.verify_mode is ssl.CERT_OPTIONAL


def test_nothing_below_tls_1_2(authority: Authority, pair: Pair) -> None:
    """On either side; and a client checks name and certificate."""
    server = server_tls(pair.cert, pair.key, None)
    assert server is not None
    client = client_tls(authority.file, None, None)

    for context in (server.context, client, pinned_tls()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (client.check_hostname, client.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_a_ca_of_ones_own_replaces_the_systems(authority: Authority) -> None:
    """Who names an authority trusts that one alone."""
    assert len(client_tls(authority.file, None, None).get_ca_certs()) == 1


@pytest.mark.parametrize("missing", ["cert", "key", "both"])
def test_certificate_and_key_go_together(authority: Authority, pair: Pair, missing: str) -> None:
    """On either side; an authority for clients needs them too."""
    cert = None if missing in ("cert", "both") else pair.cert
    key = None if missing in ("key", "both") else pair.key

    with pytest.raises(Misconfigured, match="wanted --tls-cert and --tls-key together"):
        server_tls(cert, key, authority.file)
    if missing != "both":
        with pytest.raises(Misconfigured, match="wanted --tls-cert and --tls-key together"):
            client_tls(None, cert, key)


def _of_another(pair: Pair, authority: Authority) -> None:
    pair.key.write_bytes(authority.issue(called="other").key.read_bytes())


def _encrypted(pair: Pair, _: Authority) -> None:
    command: list[str | Path] = [
        "openssl",
        "pkey",
        "-in",
        pair.key,
        "-aes256",
        "-passout",
        "pass:x",
        "-out",
        pair.key.with_suffix(".e"),
    ]
    subprocess.run(command, check=True)
    pair.key.with_suffix(".e").replace(pair.key)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda pair, _: pair.cert.unlink(), "--tls-cert .*: it cannot be read .No such file"),
        (lambda pair, _: pair.key.unlink(), "--tls-key .*: it cannot be read .No such file"),
        (lambda pair, _: pair.key.write_text("no key"), "wanted a PEM certificate .* and its PEM key"),
        (lambda pair, _: pair.cert.write_text(""), "wanted a PEM certificate .* and its PEM key"),
        (_of_another, "the key .* does not belong to the certificate"),
        pytest.param(
            _encrypted,
            "--tls-key .*: it is encrypted; decrypt it",
            marks=pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to encrypt a key"),
        ),
    ],
    ids=["no-cert", "no-key", "bad-key", "bad-cert", "other-key", "encrypted"],
)
def test_a_wrong_file_is_named(
    authority: Authority, pair: Pair, spoil: Callable[[Pair, Authority], object], complaint: str
) -> None:
    """With what was wanted of it; nobody is asked for a password."""
    spoil(pair, authority)

    with pytest.raises(Misconfigured, match=complaint):
        server_tls(pair.cert, pair.key, None)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(pair: Pair) -> None:
    """With the reason."""
    pair.key.chmod(0)

    with pytest.raises(Misconfigured, match=r"--tls-key .*Permission denied"):
        server_tls(pair.cert, pair.key, None)


def test_an_authority_that_is_none_is_named(tmp_path: Path, pair: Pair) -> None:
    """By the option that names it on this side."""
    path = tmp_path / "empty.pem"
    path.write_text("nothing")

    with pytest.raises(Misconfigured, match=r"--tls-ca .*empty\.pem: wanted PEM certificates"):
        client_tls(path, None, None)
    with pytest.raises(Misconfigured, match=r"--tls-client-ca .*empty\.pem: wanted PEM certificates"):
        server_tls(pair.cert, pair.key, path)
    with pytest.raises(Misconfigured, match=r"--tls-ca .*No such file"):
        client_tls(tmp_path / "absent", None, None)


def test_openssls_reasons_become_words() -> None:
    """Also those that nobody has met yet."""
    error = ssl.SSLError(1, "[SSL: SOME_NEW_REASON] some new reason (_ssl.c:1)")
    error.reason = "SOME_NEW_REASON"

    assert reason_of(error) == "some new reason"
    assert "something" in reason_of(ssl.SSLError("something"))
