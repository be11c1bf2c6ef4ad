import sys

import numpy as np
import pytest

from umbel.base import MissingDependency, RecordError
from umbel.records.array import Array
from umbel.records.arrayrecord import ArrayRecord
from umbel.records.codec import decode, encode
from umbel.records.recorddict import RecordDict

pytestmark = pytest.mark.slow

DTYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def model(torch):
    """Buffers (batch norm), tied weights, and a parameter that is not contiguous."""
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 4, bias=False)
    )
    model[2].weight = model[0].weight
    model.register_parameter("flipped", torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).T))
    model.register_buffer("short", torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    return model


def sent(record):
    """The record after a journey."""
    return decode(b"".join(encode(RecordDict({"arrays": record}))))["arrays"]


def same_bits(a, b):
    return (a.dtype, a.shape, stored(a)) == (b.dtype, b.shape, stored(b))


def stored(tensor):
    return tensor.contiguous().clone().untyped_storage().tolist()


@pytest.mark.parametrize("name", [*DTYPES, "float8_e8m0fnu"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)], ids=str)
def test_every_dtype_keeps_its_bits(torch, name, shape):
    dtype = getattr(torch, name)
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    tensor = tensor if len(shape) == 2 else tensor[0, 2] if shape == () else tensor[0, :0]
    array = Array(tensor)
    assert array.dtype == name
    assert array.shape == shape
    back = sent(ArrayRecord({"t": tensor})).to_torch_state_dict()["t"]
    assert same_bits(back, tensor)


def test_the_memory_is_shared(torch):
    tensor = torch.zeros(3, dtype=torch.bfloat16)
    array = Array.from_torch_tensor(tensor)
    assert Array(torch_tensor=tensor) == array
    tensor[0] = 1
    assert array.view()[0] == 1


def test_a_state_dict_comes_back(torch, model):
    state = model.state_dict()
    back = sent(ArrayRecord(state)).to_torch_state_dict()
    assert list(back) == list(state)
    assert all(same_bits(back[name], tensor) for name, tensor in state.items())
    assert back["1.num_batches_tracked"].shape == ()


def test_a_model_takes_what_comes_back(torch, model):
    record = sent(ArrayRecord.from_torch_state_dict(model.state_dict()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.load_state_dict(record.to_torch_state_dict())
    assert ArrayRecord(torch_state_dict=model.state_dict()) == record
    assert model[2].weight is model[0].weight


def test_gradients_and_lazy_signs_are_left_behind(torch):
    values = torch.tensor([1 + 2j, 3 - 4j], requires_grad=True)
    assert np.array_equal(Array(values.conj()).view(), np.array([1 - 2j, 3 + 4j], "complex64"))
    assert np.array_equal(Array(values.conj().imag).view(), np.array([-2, 4], "float32"))


def test_tensors_may_be_written_to_and_do_not_touch_the_record(torch):
    record = ArrayRecord([np.zeros(2)])
    record.to_torch_state_dict()["0"][0] = 1
    assert record["0"].view()[0] == 0
    assert len(record) == 1


def test_buffers_are_handed_out_on_request(torch):
    ndarray = np.zeros(2)
    record = ArrayRecord([ndarray])
    record.to_torch_state_dict(keep_input=False)["0"][0] = 1
    assert ndarray[0] == 1
    assert len(record) == 0


def test_big_endian_arrays_become_tensors(torch):
    tensor = ArrayRecord([np.arange(3, dtype=">i4")]).to_torch_state_dict()["0"]
    assert tensor.tolist() == [0, 1, 2]


def test_the_input_is_let_go_of_on_request(torch, model):
    state = model.state_dict()
    names = list(state)
    assert list(ArrayRecord(state, keep_input=False)) == names
    assert len(state) == 0


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
def test_what_has_no_plain_values_is_refused(torch):
    with pytest.raises(RecordError, match=r"layout torch\.sparse_coo.*to_dense"):
        Array(torch.eye(2).to_sparse())
    with pytest.raises(RecordError, match="device meta"):
        Array(torch.zeros(2, device="meta"))
    with pytest.raises(RecordError, match=r"no dtype for a tensor of torch\.complex32"):
        Array(torch.zeros(2, dtype=torch.complex32))


def test_what_torch_cannot_hold_is_refused(torch):
    with pytest.raises(RecordError, match="torch has no dtype for an array of <U2"):
        ArrayRecord([np.array(["ab"])]).to_torch_state_dict()


def test_a_state_dict_without_torch_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match=r"umbel\[torch\]"):
        ArrayRecord([np.zeros(2)]).to_torch_state_dict()


class TestOracle:
    """The safetensors library and torch agree on the bytes, bfloat16 and float8 too."""

    @pytest.fixture
    def named(self, torch):
        return {
            name: torch.arange(6).reshape(2, 3).to(getattr(torch, name))
            for name in DTYPES
            if name != "complex128"
        }

    def test_it_reads_what_is_written(self, torch, named):
        oracle = pytest.importorskip("safetensors.torch")
        loaded = oracle.load(b"".join(encode(RecordDict({"arrays": ArrayRecord(named)}))))
        for name, tensor in named.items():
            assert same_bits(loaded[f"arrays/{name}"], tensor)

    def test_what_it_writes_is_read(self, torch, named):
        oracle = pytest.importorskip("safetensors.torch")
        assert dict(decode(oracle.save(named))["arrays"]) == dict(ArrayRecord(named))
