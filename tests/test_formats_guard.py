"""What every reader of files checks with: numbers, shapes, JSON, weight manifests."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyconv.formats import FormatError, guard
from tinyconv.formats.manifest import parse_manifest


@pytest.mark.parametrize("factors", [
    (2**31,), (2**16, 2**16), (2**40, 0), (-1, 5), (True, 2), (2.0, 3), (10**400, 10**400), (None,), ("2",),
    (float("nan"),), (float("inf"),),
], ids=range(11))
def test_checked_product_refuses(factors: tuple) -> None:
    with pytest.raises(FormatError, match="it: expected"):
        guard.checked_product(factors, "it")


@given(st.lists(st.integers(0, 2**40), max_size=6), st.integers(1, 2**50))
def test_checked_product_is_the_product_or_an_error(factors: list[int], limit: int) -> None:
    try:
        assert guard.checked_product(tuple(factors), "it", limit) == math.prod(factors) <= limit
    except FormatError:
        assert any(math.prod(factors[:end]) > limit for end in range(1, len(factors) + 1))


@pytest.mark.parametrize("shape", [
    None, 3, "33", {}, [0], [-1], [True], [2.0], [None], ["3"], [[3]], [2**31], [2**20, 2**20], [1] * 9,
    [float("nan")], [float("inf")], [10**30], [1] * 100_000,
], ids=range(18))
def test_checked_shape_refuses(shape: Any) -> None:
    with pytest.raises(FormatError):
        guard.checked_shape(shape, "shape")


def test_checked_shape_takes_scalars_and_arrays() -> None:
    assert guard.checked_shape([], "shape") == ()
    assert guard.checked_shape([3, 1, 7], "shape") == (3, 1, 7)


@pytest.mark.parametrize("value", [True, None, "1", float("nan"), float("inf"), 10**400, [1], 2e38],
                         ids=range(8))
def test_checked_number_refuses(value: Any) -> None:
    with pytest.raises(FormatError):
        guard.checked_number(value, "scale", 1e38)


@pytest.mark.parametrize("text", [
    b"", b"{", b'{"a": 1, "a": 2}', b"[NaN]", b"[Infinity]", b"[-Infinity]", b"[1e999]",
    b"[" + b"9" * 5000 + b"]",
    b"[" * 100_000, b"[" * 65 + b"]" * 65, b'{"a":' * 1000 + b"1" + b"}" * 1000, b"\xff\xfe", b"[1] tail",
    b"[" + b"[]," * 300_000 + b"[]]", b'"' + b"x" * (17 << 20) + b'"',
], ids=range(15))
def test_parse_json_refuses(text: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        guard.parse_json(text, "file")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_parse_json_reads_what_is_plain() -> None:
    assert guard.parse_json('\ufeff{"a": [1, -2.5e3, null, true, "\u00e9"]}'.encode(), "file") == {
        "a": [1, -2500.0, None, True, "\u00e9"]}


@pytest.mark.parametrize("value", [
    "x" * 10**6, [0] * 10**6, {str(i): i for i in range(10**5)}, 10**10_000, [10**10_000], "line\nline",
    b"\0" * 1000,
], ids=range(7))
def test_shorten_is_one_short_line(value: Any) -> None:
    text = guard.shorten(value)
    assert len(text) <= 80
    assert "\n" not in text


# --- everything, a little wrong ---

@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["paths", "weights", "name", "shape", "dtype", "quantization", "group", "sha256"]),
        inner, max_size=4),
    max_leaves=12))
def test_parse_manifest_refuses_or_returns_groups(value: Any) -> None:
    try:
        groups = parse_manifest(value)
    except FormatError as error:
        assert "\n" not in str(error)
    else:
        assert all(group.nbytes == sum(spec.nbytes for spec in group.specs) for group in groups)
