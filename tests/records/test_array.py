import copy
import io
import pickle

import ml_dtypes
import numpy as np
import pytest

from umbel.base import RecordError
from umbel.records.array import Array


class TestMaking:
    def test_the_buffer_is_shared(self):
        ndarray = np.zeros(3)
        array = Array(ndarray)
        ndarray[0] = 7
        assert array.view()[0] == 7
        assert np.shares_memory(array.view(), ndarray)

    @pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 3)], ids=str)
    def test_any_shape_is_taken(self, shape):
        array = Array(np.ones(shape, "float32"))
        assert array.shape == shape
        assert array.numpy().shape == shape
        assert array.nbytes == len(array.data) == 4 * np.prod(shape, dtype=int)

    def test_a_numpy_scalar_is_an_array_without_dimensions(self):
        assert Array(np.float32(3)) == Array(np.array(3, "float32"))

    def test_what_converts_itself_is_taken(self):
        class Converts:
            def __array__(self, dtype=None, copy=None):
                return np.arange(3)

        assert Array(Converts()) == Array(np.arange(3))

    def test_bytes_come_with_dtype_and_shape(self):
        data = np.arange(6, dtype="<i2").tobytes()
        expected = Array(np.arange(6, dtype="int16").reshape(2, 3))
        assert Array("int16", (2, 3), "raw", data) == expected
        assert Array(dtype="int16", shape=(2, 3), stype="raw", data=data) == expected
        assert Array(expected.dtype, expected.shape, expected.stype, expected.data) == expected

    def test_bytes_are_not_copied(self):
        data = bytearray(8)
        array = Array("uint8", (8,), "raw", data)
        data[3] = 5
        assert array.view()[3] == 5

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_an_npy_file_is_taken(self, order):
        ndarray = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
        file = io.BytesIO()
        np.save(file, ndarray)
        assert Array("float64", (2, 3), "numpy.ndarray", file.getvalue()) == Array(ndarray)

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ((np.array([1, "a", None], object),), "holds Python objects"),
            ((np.ma.masked_array([1.0], [True]),), "lose its mask"),
            (([1, 2],), "cannot be made from list"),
            ((None,), "cannot be made from NoneType"),
            ((np.zeros(2), (2,)), "not with an array"),
            (("float32",), "needs dtype, shape, stype and data"),
            (("float33", (1,), "raw", b"1234"), "unknown dtype"),
            (("float32", (1,), "pickle", b"1234"), "unknown stype"),
            (("float32", (2,), "raw", b"1234"), "which takes 8"),
            (("float32", (-1,), "raw", b""), "non-negative"),
            (("float32", (1.0,), "raw", b"1234"), "non-negative"),
            (("float32", (1,), "numpy.ndarray", b"1234"), "not an .npy file"),
        ],
    )
    def test_what_cannot_be_held_is_refused(self, arguments, text):
        with pytest.raises(RecordError, match=text):
            Array(*arguments)

    def test_an_npy_file_must_be_what_was_said(self):
        file = io.BytesIO()
        np.save(file, np.zeros(2))
        with pytest.raises(RecordError, match="holds dtype float64"):
            Array("float32", (2,), "numpy.ndarray", file.getvalue())

    def test_an_npy_file_with_pickled_objects_is_refused(self):
        file = io.BytesIO()
        np.save(file, np.array([{}], object), allow_pickle=True)
        with pytest.raises(RecordError, match=r"not an \.npy file"):
            Array("float64", (1,), "numpy.ndarray", file.getvalue())


class TestReading:
    def test_a_view_is_read_only_and_shares_memory(self):
        ndarray = np.zeros(3)
        view = Array(ndarray).view()
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
        assert np.shares_memory(view, ndarray)
        assert ndarray.flags.writeable

    def test_numpy_is_a_writable_copy(self):
        ndarray = np.zeros(3)
        copied = Array(ndarray).numpy()
        copied[0] = 1
        assert ndarray[0] == 0

    def test_bytes_are_read_only(self):
        assert Array(np.zeros(3)).data.readonly

    @pytest.mark.parametrize(
        "ndarray",
        [
            np.arange(12.0).reshape(3, 4).T,
            np.arange(12.0).reshape(3, 4)[::2, ::-1],
            np.broadcast_to(np.arange(3.0), (2, 3)),
            np.arange(12, dtype=">i4").reshape(3, 4),
            np.array([("a", 1)], [("name", ">U3"), ("n", ">i2")]),
        ],
        ids=["transposed", "strided", "broadcast", "big-endian", "fields"],
    )
    def test_any_layout_is_kept_and_normalised_on_the_way_out(self, ndarray):
        array = Array(ndarray)
        little = ndarray.astype(ndarray.dtype.newbyteorder("<"))
        assert np.shares_memory(array.view(), ndarray)
        assert array.data.tobytes() == little.tobytes()
        assert array.numpy().flags.c_contiguous
        assert array.numpy().dtype.isnative
        assert np.array_equal(array.numpy(), ndarray)
        assert array == Array(little)

    def test_contiguous_bytes_are_the_buffer_itself(self):
        ndarray = np.zeros((2, 3), "float16")
        data = Array(ndarray).data
        ndarray[0, 0] = 1
        assert data[:2].tobytes() == np.float16(1).tobytes()


class TestComparing:
    def test_dtype_shape_and_bytes_decide(self):
        array = Array(np.zeros(4, "float32"))
        assert array == Array(np.zeros(4, "float32"))
        assert array != Array(np.zeros(4, "int32"))
        assert array != Array(np.zeros((2, 2), "float32"))
        assert array != Array(np.ones(4, "float32"))
        assert Array(np.zeros((0, 2))) != Array(np.zeros((2, 0)))
        assert array != "array"

    def test_nan_equals_itself(self):
        assert Array(np.array([np.nan])) == Array(np.array([np.nan]))

    @pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn"])
    def test_types_of_ml_dtypes_are_held(self, name):
        ndarray = np.array([1.5, -2.0], getattr(ml_dtypes, name))
        array = Array(ndarray)
        assert array.dtype == name
        assert Array(name, (2,), "raw", array.data) == array

    def test_it_has_no_hash(self):
        with pytest.raises(TypeError, match="unhashable"):
            hash(Array(np.zeros(1)))

    @pytest.mark.parametrize(
        "again",
        [copy.copy, copy.deepcopy, lambda array: pickle.loads(pickle.dumps(array))],
        ids=["copy", "deepcopy", "pickle"],
    )
    def test_copies_are_equal(self, again):
        array = Array(np.arange(6.0).reshape(2, 3))
        assert again(array) == array
