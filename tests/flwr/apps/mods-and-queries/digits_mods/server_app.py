from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    nodes = list(grid.get_node_ids())
    total = [0] * 10
    for expected in (1, 2):
        messages = [Message(RecordDict(), node, MessageType.QUERY) for node in nodes]
        for reply in grid.send_and_receive(messages):
            assert reply.content["calls"]["count"] == expected
            total = [a + b for a, b in zip(total, reply.content["labels"]["counts"], strict=True)]
    for digits in (3, 0):
        content = RecordDict({"config": ConfigRecord({"digits": digits})})
        asked = [Message(content, node, f"{MessageType.QUERY}.pixels") for node in nodes]
        replies = list(grid.send_and_receive(asked, timeout=60))
        assert len(replies) == len(nodes)
        assert all(reply.has_error() == (digits == 0) for reply in replies)
    print("labels", sum(total))
