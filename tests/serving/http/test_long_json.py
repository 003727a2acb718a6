"""Long JSON gives what the parser of Python gives, in short steps."""

import base64
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers.patient import PATIENCE

from image_classification_trash.serving.http import long_json, request_json
from image_classification_trash.serving.http.api_errors import RefusalError
from image_classification_trash.serving.http.long_json import LongText
from image_classification_trash.serving.http.request_json import decode_base64, parse_json

ENOUGH = 10**8


def expanded(value: Any) -> Any:
    """A parsed body as Python's parser has it."""
    match value:
        case LongText():
            return json.loads(b'"' + bytes(value.raw) + b'"')
        case np.ndarray():
            return value.tolist()
        case [np.ndarray()]:
            return value[0].tolist()
        case list():
            return [expanded(item) for item in value]
        case dict():
            return {key: expanded(item) for key, item in value.items()}
    return value


def anything(chosen: random.Random) -> dict[str, Any]:
    def numbers() -> Any:
        shape = [chosen.randrange(1, 5) for _ in range(chosen.randrange(1, 5))]
        return np.random.default_rng(chosen.randrange(10**6)).integers(0, 256, shape).tolist()

    def text() -> str:
        return "".join(chosen.choices('\\"[]{},:a é\n/', k=chosen.randrange(40)))

    kinds: list[Callable[[], Any]] = [numbers, text, lambda: chosen.randrange(300)]
    return {f"k{n}": chosen.choice(kinds)() for n in range(chosen.randrange(5))}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_json, "LONG", 8)
    monkeypatch.setattr(long_json, "PIECE", 16)
    monkeypatch.setattr(request_json, "SMALL_BODY", 0)


@pytest.mark.usefixtures("short")
def test_it_agrees_with_the_parser_of_python() -> None:
    chosen, accepted = random.Random(1), 0
    for _ in range(600):
        value = anything(chosen)
        body = json.dumps(
            value, ensure_ascii=chosen.random() < 0.5, indent=chosen.choice([None, 1]),
            separators=chosen.choice([None, (",", ":")]),
        ).encode()  # fmt: skip
        assert expanded(parse_json(body, ENOUGH)) == value
        damaged, place = bytearray(body), chosen.randrange(len(body))
        damaged[place : place + chosen.randrange(2)] = chosen.choice([*b',[]"01 }\\']).to_bytes()
        try:
            found = expanded(parse_json(bytes(damaged), ENOUGH))
        except (RefusalError, ValueError):  # the second: within a long string, which base64 refuses
            continue
        assert found == json.loads(bytes(damaged)), bytes(damaged)
        accepted += 1
    assert accepted > 100


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[1, 2], [3, 4, 5]]", "differ in length"),
        ("[[1, 2, 3], 4, 5, 6]", "differ in length"),
        ("[1, 2, 3, 256, 4, 5]", "from 0 to 255"),
        ("[1, 2, 3, -1, 4, 5]", "from 0 to 255"),
        ("[1, 2, 3, 1.0, 4, 5]", "from 0 to 255"),
        ("[1, 2, 3, 1e1, 4, 5]", "from 0 to 255"),
        ("[1, 2, 3, 4 4, 5]", "not JSON"),
        ("[1, 2, 3, 04, 5, 6]", "not JSON"),
        ("[1, 2, 3, 4, 5, 6,]", "not JSON"),
        ("[1, 2, 3, 4, 5, 6", "not JSON"),
        ("[[1, 2, 3] 4, 5, 6]", "not JSON"),
        ("[[[[[[[[[1]]]]]]]]]", "deeper than 8"),
        ("[1" + "1" * 100 + "]", "from 0 to 255"),
    ],
)
def test_lists_that_are_no_pixels(text: str, said: str) -> None:
    with pytest.raises(RefusalError, match=said):
        parse_json(f'{{"instances": {text}}}'.encode(), ENOUGH)


@pytest.mark.usefixtures("short")
def test_limits() -> None:
    body = b'{"k": [1, 2, 3, 4, 5, 6]}'
    parse_json(body, 6)
    with pytest.raises(RefusalError, match="more than 5 values"):
        parse_json(body, 5)
    with pytest.raises(RefusalError, match="member's name"):
        parse_json(b'{"a member with a long name": 1}', ENOUGH)


@pytest.mark.usefixtures("short")
def test_its_steps() -> None:
    assert long_json.string_end(b'"a\\\\" "', 1) == 5
    assert long_json.string_end(b'"a\\"' + b"b" * 300 + b'" ', 1) == 305
    assert long_json.end_of_numbers(b"[[1], 2]" * 20 + b"}", 0, 161) == 160
    assert long_json.end_of_numbers(b"[1]}", 0, 3) == 3
    assert long_json.dense_numbers(b",[1, 20 ]") == b",[1,20]"
    assert long_json.small_numbers(b"0,10,255").tolist() == [0, 10, 255]
    assert long_json.shape_of(b"[[,,],[,,]]") == (2, 3)


def test_long_strings_of_base64() -> None:
    data = bytes(range(256)) * 4000
    text = json.dumps({"image": base64.encodebytes(data).decode()}).replace("/", "\\/").encode()
    assert decode_base64(parse_json(text)["image"]) == data
    spoiled = text.replace(b"\\/", b"\\u002f", 1)
    with pytest.raises(RefusalError, match="not valid base64"):
        decode_base64(parse_json(spoiled)["image"])
    assert request_json.base64_digits(b"a\\/-_ \\r\\n") == b"a/+/"


@pytest.fixture
def eager() -> Iterator[None]:
    """A short switch interval, so that pauses are single calls into C."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager")
def test_no_call_holds_the_global_lock_for_long() -> None:
    """The best of some tries, as others compute too."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), dtype=np.uint8)
    body = json.dumps({"instances": pixels.tolist()}).encode()
    ours = min(longest_pause(lambda: parse_json(body, ENOUGH)) for _ in range(4))
    pythons = min(longest_pause(lambda: json.loads(body)) for _ in range(2))
    assert ours < pythons / 5
    assert np.array_equal(parse_json(body, ENOUGH)["instances"][0], pixels)


@pytest.mark.usefixtures("eager")
def test_base64_is_decoded_in_short_steps() -> None:
    data = random.Random(0).randbytes(20_000_000)
    body = json.dumps({"image": base64.b64encode(data).decode()}).encode()
    ours = min(longest_pause(lambda: decode_base64(parse_json(body)["image"])) for _ in range(4))
    in_one_go = min(longest_pause(lambda: base64.b64decode(json.loads(body)["image"])) for _ in range(2))
    assert ours < in_one_go / 5
    assert decode_base64(parse_json(body)["image"]) == data


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 2**18 * 3 // 4 - 1, 2**18 * 3 // 4, 2**18 * 3 // 4 + 1])
def test_base64_of_any_length_around_its_pieces(length: int) -> None:
    data = random.Random(length).randbytes(length)
    digits = base64.b64encode(data)
    for text in (digits, digits.rstrip(b"="), b"data:image/png;base64," + digits):
        assert decode_base64(LongText(memoryview(text))) == data
    for text in (digits + b"====", digits + b"=" + digits, digits + b"A="):
        if length > 2:
            with pytest.raises(RefusalError, match="not valid base64"):
                decode_base64(LongText(memoryview(text)))


def longest_pause(work: Callable[[], object]) -> float:
    """Seconds of computing between two turns of a thread that only looks at the clock, while another works.

    Where other processes have the cores, time passes in which nobody holds the lock: it does not count.
    """
    thread, pause = threading.Thread(target=work), 0.0
    last, computed = time.perf_counter(), time.process_time()
    thread.start()
    while thread.is_alive():
        time.sleep(0.0002)
        now, computing = time.perf_counter(), time.process_time()
        pause = max(pause, min(now - last, computing - computed))
        last, computed = now, computing
    thread.join(PATIENCE)
    return pause
