"""ClientApp: routing, registration, mods and lifespan, with real messages."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import cloudpickle
import pytest

from umbel.base import UsageError
from umbel.clientapp import Client, ClientApp, Handler
from umbel.records import ConfigRecord, Context, Message, MetricRecord, RecordDict


def a_message(message_type: str = "train") -> Message:
    return Message(RecordDict(), 1, message_type)


def a_context() -> Context:
    return Context(run_id="r", node_id=1, node_config={}, state=RecordDict(), run_config={})


def reply_saying(text: str, message: Message) -> Message:
    return Message(RecordDict({"config": ConfigRecord({"said": text})}), reply_to=message)


def said(reply: Message) -> object:
    return reply.content["config"]["said"]


def saying(text: str) -> Handler:
    def handler(message: Message, context: Context) -> Message:
        return reply_saying(text, message)

    return handler


def an_app() -> ClientApp:
    app = ClientApp()
    app.train()(saying("train"))
    app.train("warm_up")(saying("warm up"))
    app.evaluate()(saying("evaluate"))
    app.query("size")(saying("size"))
    return app


@pytest.mark.parametrize(
    ("message_type", "answer"),
    [
        ("train", "train"),
        ("train.default", "train"),
        ("train.warm_up", "warm up"),
        ("evaluate", "evaluate"),
        ("query.size", "size"),
    ],
)
def test_routing(message_type: str, answer: str) -> None:
    message = a_message(message_type)
    reply = an_app()(message, a_context())
    assert said(reply) == answer
    assert reply.metadata.reply_to_message_id == message.metadata.message_id


@pytest.mark.parametrize("message_type", ["query", "train.other", "evaluate.size", "system"])
def test_unknown_type_lists_what_is_registered(message_type: str) -> None:
    with pytest.raises(UsageError) as caught:
        an_app()(a_message(message_type), a_context())
    text = str(caught.value)
    assert f"nothing is registered for messages of type {message_type!r}" in text
    for known in ("evaluate (", "query.size (", "train (", "train.warm_up ("):
        assert known in text


def test_an_empty_app_says_so() -> None:
    with pytest.raises(UsageError, match=r"registered: nothing.*@app\.train\(\) above"):
        ClientApp()(a_message(), a_context())


def test_system_messages_are_not_offered_a_decorator() -> None:
    with pytest.raises(UsageError) as caught:
        an_app()(a_message("system"), a_context())
    assert "@app.system" not in str(caught.value)


def test_decorators_return_the_function() -> None:
    app, handler = ClientApp(), saying("hello")
    assert app.train()(handler) is handler


def test_the_same_action_twice() -> None:
    app = an_app()
    with pytest.raises(UsageError, match=r"'train\.warm_up' is registered twice: .*saying"):
        app.train("warm_up")(saying("again"))
    with pytest.raises(UsageError, match=r"'evaluate\.default' is registered twice"):
        app.evaluate()(saying("again"))


@pytest.mark.parametrize("action", ["", "two words", "1st", "a.b", "a-b"])
def test_action_names_are_identifiers(action: str) -> None:
    with pytest.raises(UsageError, match="cannot name an action"):
        ClientApp().train(action)


def test_forgotten_parentheses() -> None:
    app = ClientApp()
    with pytest.raises(UsageError, match=r"handler, not a string.*@app\.query\(\)"):
        app.query(saying("hello"))  # type: ignore[arg-type]


def test_a_handler_that_does_not_take_message_and_context() -> None:
    def train(message: Message) -> Message:
        return reply_saying("hello", message)

    with pytest.raises(UsageError, match=r"train cannot be called with \(message, context\)"):
        ClientApp().train()(train)  # type: ignore[type-var]


def test_a_handler_that_returns_something_else() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return message.content  # type: ignore[return-value]

    with pytest.raises(UsageError, match=r"train returned RecordDict, not a Message"):
        app(a_message(), a_context())


def test_a_handler_that_returns_a_message_that_is_no_reply() -> None:
    app = ClientApp()
    other = a_message()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return message

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(RecordDict(), reply_to=other)

    for message_type in ("train", "evaluate"):
        with pytest.raises(UsageError, match=f"{message_type} returned a Message that is not a re"):
            app(a_message(message_type), a_context())


def test_exceptions_of_a_handler_come_through() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        raise ZeroDivisionError("of the handler")

    with pytest.raises(ZeroDivisionError, match="of the handler"):
        app(a_message(), a_context())


def test_state_lasts_in_the_context() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        counter = context.state.setdefault("counter", MetricRecord({"calls": 0}))
        counter["calls"] += 1
        return Message(RecordDict(), reply_to=message)

    context = a_context()
    app(a_message(), context)
    app(a_message(), context)
    assert context.state["counter"]["calls"] == 2


class Track:
    """A mod that writes down when it is entered and left."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    def __call__(self, message: Message, context: Context, call_next: Handler) -> Message:
        self.seen.append(f"{self.name} in")
        reply = call_next(message, context)
        self.seen.append(f"{self.name} out")
        return reply


def test_mods_of_the_app_lie_outside_those_of_the_function() -> None:
    seen: list[str] = []
    app = ClientApp(mods=[Track("app 1", seen), Track("app 2", seen)])
    app.train(mods=[Track("own 1", seen), Track("own 2", seen)])(saying("hello"))
    app.evaluate()(saying("hello"))
    app(a_message(), a_context())
    names = ["app 1", "app 2", "own 1", "own 2"]
    assert seen == [f"{name} in" for name in names] + [f"{name} out" for name in reversed(names)]
    seen.clear()
    app(a_message("evaluate"), a_context())
    assert seen == ["app 1 in", "app 2 in", "app 2 out", "app 1 out"]


def test_a_mod_can_answer_by_itself() -> None:
    def refuse(message: Message, context: Context, call_next: Handler) -> Message:
        return reply_saying("refused", message)

    app = ClientApp(mods=[refuse])
    app.train()(saying("trained"))
    assert said(app(a_message(), a_context())) == "refused"


def test_a_mod_that_forgets_to_return_is_named() -> None:
    def forgetful(message: Message, context: Context, call_next: Handler) -> Message:
        call_next(message, context)
        return None  # type: ignore[return-value]

    app = ClientApp(mods=[forgetful])
    app.train()(saying("hello"))
    with pytest.raises(UsageError, match=r"forgetful returned NoneType, not a Message"):
        app(a_message(), a_context())


def test_a_mod_of_the_wrong_form_is_refused_at_once() -> None:
    def factory(bound: float) -> None:
        raise AssertionError

    with pytest.raises(UsageError, match=r"if .*factory makes a mod, call it: mods=\[.*factory"):
        ClientApp(mods=[factory])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="mods is Track, not a list"):
        ClientApp(mods=Track("alone", []))  # type: ignore[arg-type]


def test_lifespan_runs_around_every_message() -> None:
    seen: list[str] = []
    app = ClientApp(mods=[Track("mod", seen)])

    @app.lifespan()
    def lifespan(context: Context) -> Iterator[None]:
        seen.append(f"set up node {context.node_id}")
        yield
        seen.append("tear down")

    @app.train()
    def train(message: Message, context: Context) -> Message:
        seen.append("train")
        return Message(RecordDict(), reply_to=message)

    for _ in range(2):
        app(a_message(), a_context())
        assert seen == ["set up node 1", "mod in", "train", "mod out", "tear down"]
        seen.clear()


def test_lifespan_tears_down_when_the_handler_raises() -> None:
    seen: list[str] = []
    app = ClientApp()

    @app.lifespan()
    def lifespan(context: Context) -> Iterator[None]:
        seen.append("set up")
        yield
        seen.append("tear down")

    @app.train()
    def train(message: Message, context: Context) -> Message:
        raise KeyError("of the handler")

    with pytest.raises(KeyError, match="of the handler"):
        app(a_message(), a_context())
    assert seen == ["set up", "tear down"]


def test_lifespan_is_registered_once_and_yields() -> None:
    app = ClientApp()

    @app.lifespan()
    def first(context: Context) -> Iterator[None]:
        yield

    with pytest.raises(UsageError, match=r"has a lifespan already: .*first"):
        app.lifespan()(first)
    with pytest.raises(UsageError, match="not a generator function"):
        ClientApp().lifespan()(lambda context: iter([None]))


class Speaker(Client):
    def __init__(self, node_id: int) -> None:
        self.node_id = node_id

    def train(self, message: Message, context: Context) -> Message:
        return reply_saying(f"train on {self.node_id}", message)

    def query(self, message: Message, context: Context) -> Message:
        return reply_saying(message.metadata.message_type, message)


def test_client_fn_makes_a_client_for_each_message() -> None:
    seen: list[str] = []
    made: list[int] = []

    def client_fn(context: Context) -> Client:
        made.append(context.node_id)
        return Speaker(context.node_id)

    app = ClientApp(client_fn, mods=[Track("mod", seen)])
    assert said(app(a_message("train"), a_context())) == "train on 1"
    assert said(app(a_message("query.size"), a_context())) == "query.size"
    assert made == [1, 1]
    assert seen == ["mod in", "mod out"] * 2


def test_a_method_that_the_client_leaves_out() -> None:
    app = ClientApp(lambda context: Speaker(1))
    with pytest.raises(UsageError, match="Speaker does not implement evaluate"):
        app(a_message("evaluate"), a_context())


def test_a_client_does_not_answer_system_messages() -> None:
    app = ClientApp(lambda context: Speaker(1))
    with pytest.raises(UsageError, match="does not answer messages of type 'system'"):
        app(a_message("system"), a_context())


def test_a_client_whose_method_returns_no_reply_is_named() -> None:
    class Silent(Client):
        def train(self, message: Message, context: Context) -> Message:
            return None  # type: ignore[return-value]

    app = ClientApp(lambda context: Silent())
    with pytest.raises(UsageError, match=r"Silent\.train returned NoneType"):
        app(a_message(), a_context())


def test_client_fn_that_returns_no_client() -> None:
    def client_fn(context: Context) -> Client:
        return Speaker  # type: ignore[return-value]

    with pytest.raises(UsageError, match=r"client_fn returned type, not a client"):
        ClientApp(client_fn)(a_message(), a_context())


def test_client_fn_that_is_a_client() -> None:
    with pytest.raises(UsageError, match="client_fn is Speaker, not a function"):
        ClientApp(Speaker(1))  # type: ignore[arg-type]


def test_client_fn_and_decorators_exclude_each_other() -> None:
    app = ClientApp(lambda context: Speaker(1))
    for decorator in (app.train, app.evaluate, app.query):
        with pytest.raises(UsageError, match="either client_fn or the decorators"):
            decorator()


def test_an_app_defined_in_a_script_can_be_carried() -> None:
    app = ClientApp(mods=[Track("mod", [])])
    app.train()(saying("hello"))
    copy = pickle.loads(cloudpickle.dumps(app))
    assert said(copy(a_message(), a_context())) == "hello"
