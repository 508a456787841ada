"""Input: every line of a file or a pipe is a task, or its number is named."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

import anyio
import msgspec
import pytest
from anyio import create_task_group, fail_after

from dtm.cli.input import MOST_BYTES, MOST_TASKS, BadInput, Template, read_tasks
from dtm.protocol.framing import MAX_VALUE
from dtm.protocol.messages import SubmittedTask

TEXT = Template(kind="A", is_json=False, key="k", priority=0, delay=None, max_retries=None)
JSON = msgspec.structs.replace(TEXT, is_json=True)


async def parts(file: BinaryIO, template: Template = TEXT) -> list[list[SubmittedTask]]:
    """Read to the end."""
    return [part async for part in read_tasks(file, template)]


async def payloads(data: bytes, template: Template = TEXT) -> list[bytes]:
    """Read to the end, and give the payloads."""
    return [bytes(task.payload) for part in await parts(io.BytesIO(data), template) for task in part]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a\nb\n", [b'"a"', b'"b"']),
        (b"a\nb", [b'"a"', b'"b"']),
        (b"\n\na\n", [b'""', b'""', b'"a"']),
        (b" a \n", [b'" a "']),
        (b'"\\\x00\x1b\n', [b'"\\"\\\\\\u0000\\u001b"']),
        ("ä€😀\u2028x\n".encode(), ['"ä€😀\u2028x"'.encode()]),
        (b"a\r\nb\r\r\n\r\nc\r", [b'"a"', b'"b\\r"', b'""', b'"c"']),
        ("\ufeffa\n\ufeffb\n".encode(), [b'"a"', '"\ufeffb"'.encode()]),
    ],
    ids=["nothing", "lines", "unfinished", "empty", "blanks", "controls", "unicode", "windows", "mark"],
)
async def test_a_line_is_a_text(data: bytes, expected: list[bytes]) -> None:
    """As it stands, empty ones too; the last one needs no end."""
    assert await payloads(data) == expected


async def test_a_line_may_be_json() -> None:
    """It is passed on as it is, but for blanks around it, which may be the rest of a Windows line end."""
    assert await payloads(b'\xef\xbb\xbf{"a": 1}\r\n  [1,2] \n12345678901234567890123\n1e400', JSON) == [
        b'{"a": 1}',
        b"[1,2]",
        b"12345678901234567890123",
        b"1e400",
    ]


@pytest.mark.parametrize("bad", [b"", b"nope", b"{", b"1 2", b"NaN", b'"\xff"', b'"\\ud800"', b"\x0c1", b"[" * 100_000])
@pytest.mark.parametrize("end", [b"\n", b""], ids=["line", "last"])
async def test_a_line_that_is_no_json_is_named(bad: bytes, end: bytes) -> None:
    """By its number, and quoted."""
    if not bad and not end:
        return
    with pytest.raises(BadInput, match=r"^line 3: wanted JSON, found '.*: it is no JSON \("):
        await payloads(b"1\n2\n" + bad + end, JSON)


async def test_a_line_that_nests_too_deep_is_named() -> None:
    """The server would refuse it, and all that are submitted with it."""
    with pytest.raises(BadInput, match=r"^line 2: wanted JSON, found .*: it nests more than 128 lists and objects"):
        await payloads(b"[" * 128 + b"]" * 128 + b"\n" + b"[" * 129 + b"]" * 129 + b"\n", JSON)


async def test_a_line_that_is_no_utf_8_is_named() -> None:
    """A text must be text."""
    with pytest.raises(BadInput, match=r"^line 2: wanted UTF-8 text, found 'gr\\xfcn' \(invalid start byte\)"):
        await payloads(b"a\n" + "grün\n".encode("latin-1"))


@pytest.mark.parametrize("end", [b"\n", b"", b"\nmore\n"])
async def test_a_line_too_long_is_named(end: bytes) -> None:
    """Whether its end was found or not."""
    with pytest.raises(BadInput, match=r"^line 2: a line may hold 983,040 bytes"):
        await payloads(b"a\n" + b"x" * (MAX_VALUE + 1) + end)


async def test_a_line_that_grows_too_long_as_json_is_named() -> None:
    """Quoting takes room."""
    assert len((await payloads(b"x" * (MAX_VALUE - 2)))[0]) == MAX_VALUE
    with pytest.raises(BadInput, match=r"^line 1: wanted a payload of at most 983,040 bytes, found 983,042"):
        await payloads(b'"' * (MAX_VALUE // 2))


async def test_each_line_gets_a_key_of_its_own() -> None:
    """By its number in the whole file, so that the same file again gives the same keys."""
    found = await parts(io.BytesIO(b"x\n" * (2 * MOST_TASKS + 5)))

    keys = [task.key for part in found for task in part]
    assert keys == [f"k-{number}" for number in range(1, 2 * MOST_TASKS + 6)]


async def test_the_number_in_a_complaint_counts_all_lines() -> None:
    """Not only those of the last part."""
    with pytest.raises(BadInput, match=r"^line 200001: "):
        await payloads(b"1\n" * 200_000 + b"x\n", JSON)


async def test_what_stands_before_a_bad_line_is_given() -> None:
    """All of it, also if it came in one piece with the bad line."""
    given: list[SubmittedTask] = []

    async def read() -> None:
        async for part in read_tasks(io.BytesIO(b"1\n" * (MOST_TASKS + 5) + b"x\n2\n"), JSON):
            given.extend(part)

    with pytest.raises(BadInput, match="nothing from this line on is submitted"):
        await read()
    assert [task.key for task in given] == [f"k-{number}" for number in range(1, MOST_TASKS + 6)]


async def test_parts_are_bounded_in_tasks_and_bytes() -> None:
    """Each must fit into a line of the wire."""
    many = await parts(io.BytesIO(b"x\n" * 5 * MOST_TASKS))
    assert max(len(part) for part in many) == MOST_TASKS
    large = await parts(io.BytesIO((b"x" * 100_000 + b"\n") * 50))
    sizes = [sum(len(bytes(task.payload)) for task in part) for part in large]

    assert max(sizes) < MOST_BYTES + 101_000
    assert sum(len(part) for part in large) == 50


async def test_what_has_come_is_not_held_back() -> None:
    """A pipe that goes on for ever gives its tasks as they come."""
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb", buffering=0) as source:  # noqa: ASYNC230, PTH123
        tasks = read_tasks(pipe, TEXT)
        with fail_after(5):
            for word in (b"one", b"two"):
                source.write(word + b"\nunfin")
                (task,) = await anext(tasks)
                assert bytes(task.payload).endswith(word + b'"')
                source.write(b"ished\n")
                (task,) = await anext(tasks)
                assert bytes(task.payload) == b'"unfinished"'
        await tasks.aclose()  # type: ignore[attr-defined]


async def test_waiting_for_a_pipe_can_be_given_up() -> None:
    """Ctrl-C must not wait for the next line."""
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe:  # noqa: ASYNC230, PTH123
        try:
            with fail_after(5):
                async with create_task_group() as group:
                    group.start_soon(parts, pipe)
                    await anyio.sleep(0.05)
                    group.cancel_scope.cancel()
        finally:
            os.close(writing)
            await anyio.to_thread.run_sync(pipe.read)


def test_a_template_gives_all_tasks_what_they_share() -> None:
    """Kind, priority, delay and tries."""
    template = Template(kind="B", is_json=False, key="x", priority=-3, delay=1.5, max_retries=7)

    assert template.task(b"p", "key") == SubmittedTask("B", msgspec.Raw(b'"p"'), "key", -3, 1.5, None, 7, None)
