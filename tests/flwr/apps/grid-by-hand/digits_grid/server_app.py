import numpy as np
from flwr.app import ArrayRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

from digits_grid.task import load_data, new_model, test

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    model = new_model()
    for server_round in range(1, context.run_config.get("num-server-rounds", 3) + 1):
        content = RecordDict({"arrays": ArrayRecord(model)})
        ids = grid.push_messages(
            Message(content, node, MessageType.TRAIN, group_id=str(server_round), ttl=300)
            for node in grid.get_node_ids()
        )
        waiting, models, weights = set(ids), [], []
        while waiting:
            for reply in grid.pull_messages(waiting):
                waiting.discard(reply.metadata.reply_to_message_id)
                if reply.has_error():
                    continue
                models.append(reply.content["arrays"].to_numpy_ndarrays())
                weights.append(reply.content["metrics"]["num-examples"])
        layers = zip(*models, strict=True)
        model = [np.average(layer, axis=0, weights=weights).astype("f4") for layer in layers]
    print("accuracy", round(test(model, *load_data(4, 4))[1], 3))
