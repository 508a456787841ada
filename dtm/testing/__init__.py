"""For the tests of programs that have tasks: run them at once, or on a real server for the length of a test.

    with dtm.testing.inline(app):                       # no server: a submission runs the function at once
        assert resize.sync.submit("a.png").result() == …

    with dtm.testing.server(app) as server:             # a real one, on a database of its own, and a worker
        assert resize.sync.submit("a.png").result(timeout=10) == …

As a fixture of pytest:

    @pytest.fixture
    def server():
        with dtm.testing.server(app) as server:
            yield server

In either, `async with app:` works too. Beside a server of dtm.testing, `app` speaks to it and to no other.
"""

from dtm.testing.inline import inline as inline
from dtm.testing.server import TestServer as TestServer
from dtm.testing.server import server as server
