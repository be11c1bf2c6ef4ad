from digits_secure.client_app import app as client_app
from digits_secure.server_app import app as server_app
from flwr.simulation import run_simulation

if __name__ == "__main__":
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server_app, client_app, num_supernodes=4, backend_config=resources)
