import pytest

import umbel
from umbel.base import UsageError
from umbel.records import Context, Message, RecordDict
from umbel.serverapp import ServerApp


@pytest.fixture
def context():
    return Context("run", 0, {}, RecordDict(), {"lr": 0.1})


def test_a_run_returns_what_main_returned():
    server, client = ServerApp(), umbel.ClientApp()

    @client.query()
    def ping(message, context):
        return Message(RecordDict(), reply_to=message)

    @server.main()
    def main(grid, context):
        return context.run_config, list(grid.get_node_ids())

    value = umbel.run_simulation(server, client, 2, "inprocess", run_config={"lr": 0.1})
    assert value == ({"lr": 0.1}, [0, 1])


def test_the_lifespan_is_around_main_also_when_it_raises(context):
    app, steps = ServerApp(), []

    @app.lifespan()
    def around(context):
        steps.append(f"open {context.run_id}")
        yield
        steps.append("close")

    @app.main()
    def main(grid, context):
        steps.append("main")
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        app(None, context)
    assert steps == ["open run", "main", "close"]


def test_there_is_one_of_each(context):
    app = ServerApp()
    with pytest.raises(UsageError, match="has no main function"):
        app(None, context)
    app.main()(lambda grid, context: None)
    with pytest.raises(UsageError, match="has a main function already"):
        app.main()(lambda grid, context: None)

    def around(context):
        yield

    app.lifespan()(around)
    with pytest.raises(UsageError, match="has a lifespan already"):
        app.lifespan()(around)


def test_a_lifespan_yields_once(context):
    with pytest.raises(UsageError, match="not a generator function"):
        ServerApp().lifespan()(lambda context: None)
    app = ServerApp()
    app.main()(lambda grid, context: None)

    @app.lifespan()
    def twice(context):
        yield
        yield

    with pytest.raises(UsageError, match="yields more than once"):
        app(None, context)


def test_main_without_parentheses():
    with pytest.raises(UsageError, match=r"write it as @app\.main\(\)"):
        ServerApp().main(lambda grid, context: None)
