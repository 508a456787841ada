"""Lines that resemble messages: valid ones, wrong ones, and damaged ones, all out of one seeded random source."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import msgspec
from msgspec import Raw

from dtm.protocol.codec import encode
from dtm.protocol.framing import MAX_LINE, MAX_VALUE
from dtm.protocol.messages import Message, Result, Task
from dtm.protocol.values import MAX_DEPTH
from dtm.server.inquiries import INQUIRIES
from tests.protocol.examples import MOST

KINDS = ("A", "B", "C")

# JSON texts that a payload or a result may be: each must come back as it is, to the byte.
ODD_VALUES = (
    *("0", "-0", "-0.0", "1.0", "1e5", "1E+2", "1e999", "-1e999", "1e-999", "0.1000000000000000055511151231257827"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "9" * 400),
    *('""', '"\\u0000"', '"\\u0001\\u001b[2J"', '"\\ud83d\\udca3"', '"\U0001f4a3"', '"\u2028\u2029"', '"\x7f\x85\x9b"'),
    *('"\u202egnp.exe\u202c"', '"\\/\\b\\f\\n\\r\\t\\"\\\\"', '"\ufeff"', '"\uffff\ufdd0"', '"NaN"', '"[[[[{{{{"'),
    *("true", "false", "null", "[]", "{}", "[[],{}]", '{"":""}', '{"a":1,"a":2}', '{"\\u0000":[null]}', "[ 1 ,  2 ]"),
    *('{"type":"Goodbye"}', '[{"kind":"A"}]', '\t{ "a" : [ 1 ] } '.strip()),
)
# What may stand where a value does, and should not.
WRONG_VALUES = (
    *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"1e999", b"-1e999", b"01", b"+1", b".5", b"1.", b"0x10", b"1_0"),
    *(b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"9" * 400, b"9" * 5_000, b"1.5"),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"\xc0\xaf"', b'"\xf4\x90\x80\x80"', b'"\xe2"'),
    *(b'"\0"', b'"\\u0000"', b'"\x01"', b'"\x1b[2J"', b'"\t"', b'"\\x41"', b'"\\u12"', b'"', b"'a'", b'""'),
    *(b"null", b"true", b"[]", b"{}", b"[[[[]]]]", b'{"a":{"a":{}}}', b"", b"[", b"]", b"{", b"}", b",", b":", b"-1"),
    *(b'{"selection":{"everything":true},"limit":5}', b'"secret"', b"undefined", b"True", b"None", b"\xef\xbb\xbf1"),
    *(b"/**/1", b"-", b'"a\\u0000b"'),
)
BYTES = (b"", b"\0", b"\r", b"\xff", b"\\", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\xe2\x80\xa8", b"\x1b", b" ")

# The first two change something: they are the likeliest.
COMMANDS = (*["deadletter.reprocess", "deadletter.clear"] * 2, "tasks.cancel", *sorted(INQUIRIES))

Line = dict[str, Any]


class Mutator:
    """Makes lines of `examples`, by `chance` alone."""

    def __init__(self, examples: Sequence[Message], chance: random.Random, *, most_ref: int = MOST) -> None:
        self._examples = [json.loads(encode(example)) for example in examples]
        self._chance = chance
        self._fresh: dict[str, Callable[[], Any]] = {
            "ref": lambda: chance.randint(-1 - most_ref, most_ref),
            "task_id": self._number,
            "assignment": self._number,
            "kind": lambda: chance.choice(KINDS),
            "kinds": lambda: chance.sample(KINDS, chance.randint(0, 3)),
            "capacity": lambda: chance.randint(0, 6),
            "payload": self._value,
            "value": self._value,
            "key": self._key,
            "priority": lambda: chance.randint(-2, 2),
            "delay": lambda: chance.choice((None, 0, 0.001, 1e6)),
            "run_at": lambda: None,
            "timeout": lambda: chance.choice((None, 0.001, 30)),
            "expires": lambda: chance.choice((None, 0, 0.001, 1e6)),
            "expires_at": lambda: None,
            "unique": lambda: chance.choice((None, "u", self._key())),
            "after": lambda: chance.choice((None, 0, 0.001, 1e6)),
            "ids": lambda: [self._number() for _ in range(chance.randint(0, 5))],
            # Of its own: a client that comes back under another's name and instance takes its connection's place.
            "name": lambda: f"w{chance.getrandbits(60):x} \x1b[2J",
            "instance": lambda: chance.choice((None, f"{chance.getrandbits(64):016x}")),
            "command": lambda: chance.choice(COMMANDS),
            "args": self._arguments,
            "resume": lambda: [self._number() for _ in range(chance.randint(0, 3))],
        }

    def lines(self, count: int) -> list[bytes]:
        """Give some lines, without their ends."""
        return [self.line() for _ in range(count)]

    def line(self) -> bytes:
        """Give a line: a valid message, or one that something has happened to."""
        return self.mutant(self._chance.choice(self._examples))

    def mutant(self, example: Line) -> bytes:
        """Give `example` as a line, as it could be or with something done to it."""
        chance = self._chance
        message = self._freshened(example)
        draw = chance.random()
        if draw < 0.0005:
            return self._extreme(message)
        if 0.35 <= draw < 0.7:
            for _ in range(chance.choice((1, 1, 1, 2))):
                self._replace_something(message)
        line = msgspec.json.encode(message)
        if draw >= 0.65:
            for _ in range(chance.choice((1, 1, 2, 3))):
                line = self._damaged(line)
        # Otherwise it would be two lines.
        return line.replace(b"\n", b"")

    def result(self, task: Task) -> tuple[bytes, bytes | None]:
        """Report on `task`: well, and with which value, or in some wrong way."""
        value = self._value()
        line = encode(Result(task.task_id, task.assignment, ok=True, value=value))[:-1]
        if self._chance.random() < 0.7:
            return line, bytes(value)
        return self._damaged(line).replace(b"\n", b""), None

    # Values.

    def _freshened(self, example: Line) -> Line:
        """Give `example` with other numbers, names and payloads, some of which exist."""
        message = {}
        for name, old in example.items():
            if name in self._fresh:
                message[name] = self._fresh[name]()
            elif name == "tasks" and isinstance(old, list):
                message[name] = [self._freshened(task) if isinstance(task, dict) else task for task in old]
            else:
                message[name] = deepcopy(old)
        return message

    def _number(self) -> int:
        return self._chance.randint(0, 2 ** self._chance.choice((2, 8, 14)))

    def _key(self) -> str | None:
        return self._chance.choice((*[None] * 9, "k1", f"k{self._number()}", "\x1b[31m\u202e"))

    def _arguments(self) -> Any:
        selection = self._chance.choice(
            ({"everything": True}, {}, {"ids": [self._number()]}, {"kind": "A"}, {"error": ""})
        )
        limited = {"selection": selection, "limit": self._chance.choice((1, 2, 10_000))}
        listed = {"limit": 2, "kind": "A", "before": self._number()}
        return self._chance.choice((limited, limited, listed, {"id": self._number()}, {"selection": selection}, {}))

    def _value(self) -> Raw:
        chance = self._chance
        if chance.random() < 0.02:
            around = chance.randint(1, MAX_DEPTH + 2)
            return Raw(b"[" * around + chance.choice(ODD_VALUES).encode() + b"]" * around)
        text = chance.choice(ODD_VALUES)
        if chance.random() < 0.2:
            text = f'{{"{chance.randint(0, 9)}":{text},"x":[{text},{chance.random()}]}}'
        return Raw(text.encode())

    # Damage.

    def _extreme(self, message: Line) -> bytes:
        chance = self._chance
        value = chance.choice(
            (
                b"[" * 200_000,
                b'{"a":' * 100_000,
                b"[" * 900 + b"]" * 900,
                b"[" * 400_000 + b"]" * 400_000,
                b'"' + b"x" * (MAX_VALUE - 2) + b'"',
                b'"' + b"x" * MAX_VALUE + b'"',
                b'"' + b"\\u0000" * 100_000 + b'"',
                b'"' + b"x" * MAX_LINE + b'"',
                b"[" + b"{}," * 200_000 + b"{}]",
                b"[" + b"NaN," * 100_000 + b"1]",
                b"8" * 500_000,
                b"1e" + b"9" * 100_000,
            )
        )
        place = chance.choice([*self._places(message), (message, "extra")])
        place[0][place[1]] = Raw(value)
        return msgspec.json.encode(message)

    def _replace_something(self, message: Line) -> None:
        chance = self._chance
        container, name = chance.choice(self._places(message) or [({"": None}, "")])
        draw = chance.random()
        if draw < 0.7:
            container[name] = Raw(chance.choice(WRONG_VALUES))
        elif draw < 0.8:
            del container[name]
        elif draw < 0.9:
            # Another message's field: right in itself, and in the wrong place.
            container[name] = deepcopy(chance.choice(list(chance.choice(self._examples).values())))
        else:
            message[chance.choice(("", "ref", "type", "x", "\ud7ff", "kind"))] = Raw(chance.choice(WRONG_VALUES))

    def _places(self, container: Any) -> list[tuple[Any, Any]]:
        items = list(container.items()) if isinstance(container, dict) else list(enumerate(container))
        places = [(container, name) for name, _ in items]
        for _, inner in items:
            if isinstance(inner, (dict, list)):
                places += self._places(inner)
        return places

    def _damaged(self, line: bytes) -> bytes:
        chance = self._chance
        at = chance.randint(0, len(line))
        end = min(len(line), at + chance.choice((0, 1, 1, 2, 8, 40)))
        match chance.randint(0, 7):
            case 0:
                return line[:at]
            case 1 | 2 if line:
                at = chance.randrange(len(line))
                return line[:at] + bytes([line[at] ^ 1 << chance.randint(0, 7)]) + line[at + 1 :]
            case 3:
                return line[:at] + line[end:]
            case 4:
                return line[:at] + line[at:end] * 2 + line[end:]
            case 5:
                return line[:at] + chance.choice(WRONG_VALUES) + line[end:]
            case 6:
                name = chance.choice((b"ref", b"type", b"kind", b"task_id", b"ok", b"tasks"))
                return line.replace(b"{", b'{"%b":%b,' % (name, chance.choice(WRONG_VALUES)), 1)
            case _:
                return line[:at] + chance.choice(BYTES) + line[end:]
