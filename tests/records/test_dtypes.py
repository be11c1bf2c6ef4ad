import ml_dtypes
import numpy as np
import pytest

from umbel.base import RecordError
from umbel.records.dtypes import CODE_OF_NAME, ITEMSIZE_OF_CODE, dtype_of, name_of, wire_type

PADDED = np.dtype({"names": ["a", "b"], "formats": ["i1", "<f8"], "offsets": [0, 8]})
NESTED = np.dtype([("p", [("x", "<f4"), ("y", "<f4")], (2, 3)), ("label", "<U5")])


@pytest.mark.parametrize(
    "dtype",
    [
        *[np.dtype(name) for name in ("bool", "int8", "uint64", "float16", "complex128")],
        *[np.dtype(name) for name in ("datetime64[ns]", "timedelta64[25s]", "datetime64")],
        *[np.dtype(name) for name in ("longdouble", "clongdouble", "<U5", "S3", "V8", "U0")],
        *[np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e5m2", "int4")],
        PADDED,
        NESTED,
        np.dtype([]),
    ],
    ids=str,
)
def test_a_name_leads_back_to_its_dtype(dtype):
    again = dtype_of(name_of(dtype))
    assert again == dtype
    assert again.itemsize == dtype.itemsize


@pytest.mark.parametrize("text", ["f4", "i8", "U3", "M8[us]"])
def test_the_name_does_not_depend_on_the_byte_order(text):
    assert name_of(np.dtype(">" + text)) == name_of(np.dtype("<" + text))


def test_the_byte_order_of_fields_is_part_of_no_name():
    assert name_of(np.dtype([("a", ">i4")])) == name_of(np.dtype([("a", "<i4")]))


@pytest.mark.parametrize("dtype", [object, [("a", object)], [("a", [("b", object)])]], ids=str)
def test_python_objects_have_no_name(dtype):
    with pytest.raises(RecordError, match="holds Python objects"):
        name_of(np.dtype(dtype))


@pytest.mark.parametrize(
    "name",
    [
        "object",
        '{"names": ["a"], "formats": ["object"], "offsets": [0], "itemsize": 8}',
        '{"names": ["a"], "formats": ["int8"], "offsets": [7], "itemsize": 4}',
        '{"names": ["a"], "formats": [["int8", [-1]]], "offsets": [0], "itemsize": 4}',
        '{"names": ["a"], "formats": [["int8"]], "offsets": [0], "itemsize": 4}',
        '{"names": ["a"]}',
        "{",
        "{" * 100_000,
        "float33",
        "finfo",
        "f4,f8",
        "(2,3)f4",
        "<U9999999999",
        "datetime64[parsec]",
        "__version__",
        "",
    ],
    ids=lambda name: name[:30],
)
def test_a_name_from_a_stranger_is_refused(name):
    with pytest.raises(RecordError, match="dtype"):
        dtype_of(name)


def test_a_code_says_how_wide_its_items_are():
    for name, code in CODE_OF_NAME.items():
        assert dtype_of(name).itemsize == ITEMSIZE_OF_CODE[code]


def test_a_dtype_that_the_format_does_not_know_travels_as_bytes():
    assert wire_type(np.dtype("float32")).code == "F32"
    assert wire_type(np.dtype("float32")).true_name is None
    assert wire_type(np.dtype("complex128")) == ("U8", "complex128", 16, 8)
