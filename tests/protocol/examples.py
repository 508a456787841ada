"""A message of each type and shape, in both directions; whatever tries every message tries these."""

from __future__ import annotations

from msgspec import Raw

from dtm.protocol import messages
from dtm.protocol.messages import ClientMessage, RetryPolicy, ServerMessage, SubmittedTask, TaskStatus

MOST = 2**63 - 1
FAILURE = messages.Failure("ValueError", "boom", "Traceback…")
EMPTY_TASK = SubmittedTask("add")
FULL_TASK = SubmittedTask(
    "add",
    Raw(b'{"a":[1,2.5,null]}'),
    "k1",
    priority=-(2**31),
    delay=0.5,
    run_at=1.5,
    max_retries=1,
    timeout=30.0,
    expires=60.0,
    expires_at=2.5,
    unique="u1",
    retry=RetryPolicy("linear", 1.5, 60.0, 0.25, ["OSError"], ["ValueError"]),
)

FROM_CLIENT: list[ClientMessage] = [
    messages.Register("w1", ["add", "mul"], 4),
    messages.Register("w1", [], 0, resume=[0, MOST]),
    messages.Submit(-(2**63), [EMPTY_TASK]),
    messages.Submit(MOST, [EMPTY_TASK, FULL_TASK], notify=True, updates=True),
    messages.Submit(1, [SubmittedTask("add", retry=RetryPolicy())]),
    messages.Result(7, 8, ok=True),
    messages.Result(7, 8, ok=True, value=Raw(b'"\\u0000\\u2028"')),
    messages.Result(7, 8, ok=False, error=FAILURE, retry=False),
    messages.Result(7, 8, ok=False, error=messages.Failure("E", bases=["OSError"]), after=60.0),
    messages.Release(7, 8),
    messages.Release(7, 8, delay=600.0),
    messages.Progress(7, 8),
    messages.Progress(7, 8, 0.5, "half\U0001f4a3"),
    messages.Capacity(100_000),
    messages.PingRequest(),
    messages.PingRequest(1.5),
    messages.PingRequest(-(2**63)),
    messages.PingRequest("now\U0001f4a3"),
    messages.Query(1, [], notify=True),
    messages.Query(1, [0, MOST], updates=True),
    messages.CancelRequest(1, [0, MOST]),
    messages.Authenticate("0f" * 32),
    messages.Proof("a9" * 32),
    messages.Admin(1, "deadletter.clear"),
    messages.Admin(1, "deadletter.clear", Raw(b'{"limit":1}')),
    messages.Goodbye(),
]
FROM_SERVER: list[ServerMessage] = [
    messages.Challenge("0f" * 32),
    messages.Authenticated(["producer", "worker"], "a9" * 32),
    messages.RegisterResponse(
        client_id=1, server="dtm", protocol=1, heartbeat_interval=10.0, heartbeat_timeout=30.0, resumed=[7], lost=[8]
    ),
    messages.SubmitResponse(1, [7, 8], [8]),
    messages.Task(7, 8, "add", Raw(b"[1,2]"), 2, timeout=None),
    messages.Task(7, 8, "add", Raw(b"null"), 0, timeout=0.5),
    messages.ResultResponse(7, 8, "accepted", "completed"),
    messages.ResultResponse(7, 8, "stale", None),
    messages.TaskFinished(7, "completed", value=Raw(b"3")),
    messages.TaskFinished(7, "completed", value=Raw(b"null")),
    messages.TaskFinished(7, "dead", error=FAILURE),
    messages.TaskUpdate(7, "assigned", 0),
    messages.TaskUpdate(7, "scheduled", 1, 0.5, "half", 2.5),
    messages.TaskUpdate(7, "assigned", 0, cancel_requested=True),
    messages.Cancel(7, 8),
    messages.Cancel(7, 8, "timeout"),
    messages.CancelResponse(1, ["cancelled", "assigned", None]),
    messages.PingResponse(),
    messages.PingResponse("now"),
    messages.QueryResponse(1, [None, TaskStatus(7, "add", "pending", 0, 3)]),
    messages.QueryResponse(1, [TaskStatus(7, "add", "completed", 0, 3, value=Raw(b"3"))]),
    messages.QueryResponse(1, [TaskStatus(7, "add", "dead", 3, 3, error=FAILURE)]),
    messages.QueryResponse(
        1, [TaskStatus(7, "add", "assigned", 0, 3, fraction=0.5, note="half", run_at=1.5, cancel_requested=True)]
    ),
    messages.AdminResponse(1, Raw(b'{"done":1,"left":0}')),
    messages.ShuttingDown(),
    messages.Error("bad-json", "wanted one JSON object a line"),
    messages.Error("refused", "no", 7),
]
