import sys

import flwr as fl
import numpy as np


class FlowerClient(fl.client.NumPyClient):
    def __init__(self, shift):
        self.shift = shift
        self.weights = [np.zeros(3, dtype=np.float32)]

    def get_parameters(self, config):
        return self.weights

    def fit(self, parameters, config):
        self.weights = [layer + self.shift for layer in parameters]
        return self.weights, 10, {}

    def evaluate(self, parameters, config):
        return float(parameters[0].mean()), 10, {"accuracy": 0.25 * self.shift}


port, shift, call = sys.argv[1:]
client = FlowerClient(float(shift))
if call == "client":
    fl.client.start_client(server_address=f"127.0.0.1:{port}", client=client.to_client())
else:
    fl.client.start_numpy_client(server_address=f"127.0.0.1:{port}", client=client)
