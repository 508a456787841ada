"""What a client brings to a connection: a token, a way to speak TLS, both or neither."""

from __future__ import annotations

import ssl

from msgspec import Struct

from dtm.security.tokens import Token


class Credentials(Struct, frozen=True):
    """With a token the client demands that the server knows it too; with `tls` that its certificate holds."""

    token: Token | None = None
    tls: ssl.SSLContext | None = None


NO_CREDENTIALS = Credentials()
