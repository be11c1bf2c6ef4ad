"""Which module of Flower's has which names, and where each of them lies in Umbel."""

from __future__ import annotations

from umbel.flwr.message_strategies import ADOPTED
from umbel.flwr.old_strategies import RULES

_HERE = "umbel.flwr"
Names = dict[str, str]
"""Name in Flower to ``"module:attribute"``."""


def _names(module: str, words: str) -> Names:
    return {word: f"{module}:{word}" for word in words.split()}


_RECORDS = _names(
    "umbel.records",
    "Array ArrayRecord ConfigRecord Context Error Message MessageType Metadata MetricRecord "
    "RecordDict",
)
_OLD_RECORDS = {
    "ConfigsRecord": "umbel.records:ConfigRecord",
    "MetricsRecord": "umbel.records:MetricRecord",
    "ParametersRecord": "umbel.records:ArrayRecord",
    "RecordSet": "umbel.records:RecordDict",
}
_VALUES = {
    "ConfigRecordValues": "umbel.records:ConfigRecordValues",
    "ConfigScalar": "umbel.records:ConfigScalar",
    "MetricRecordValues": "umbel.records:MetricRecordValues",
    "MetricScalar": "umbel.records:MetricScalar",
    "UserConfig": "umbel.records:UserConfig",
    "UserConfigValue": "umbel.records:UserConfigValue",
    "DEFAULT_TTL": "umbel.base:MESSAGE_TTL_S",
}
_PARAMETERS = _names(
    f"{_HERE}.parameters",
    "NDArray NDArrays Parameters bytes_to_ndarray ndarray_to_bytes ndarrays_to_parameters "
    "parameters_to_ndarrays",
)
_INSTRUCTIONS = _names(
    f"{_HERE}.instructions",
    "Code Config DisconnectRes EvaluateIns EvaluateRes FitIns FitRes GetParametersIns "
    "GetParametersRes GetPropertiesIns GetPropertiesRes Metrics MetricsAggregationFn NDArrayFloat "
    "NDArrayInt Properties ReconnectIns Scalar Status Value",
)
_CLIENT_APP = _names(f"{_HERE}.client_app", "ClientApp ClientFn ClientFnExt")
_DP_MODS = _names(f"{_HERE}.dp_mods", "LocalDpMod adaptiveclipping_mod fixedclipping_mod")
_MODS = (
    _names("umbel.clientapp", "message_size_mod")
    | _names(f"{_HERE}.client_app", "arrays_size_mod")
    | _DP_MODS
)
_DP_CONSTANTS = _names(
    f"{_HERE}.dp_norms", "CLIENTS_DISCREPANCY_WARNING KEY_CLIPPING_NORM KEY_NORM_BIT"
)
_DP_NORMS = _names(
    f"{_HERE}.dp_norms",
    "adaptive_clip_inputs_inplace add_gaussian_noise_inplace add_gaussian_noise_to_params "
    "clip_inputs_inplace compute_adaptive_clip_model_update compute_adaptive_noise_params "
    "compute_clip_model_update compute_stdv get_norm",
)
_DP_WRAPPERS = (
    "DifferentialPrivacyClientSideAdaptiveClipping DifferentialPrivacyClientSideFixedClipping "
    "DifferentialPrivacyServerSideAdaptiveClipping DifferentialPrivacyServerSideFixedClipping"
)
_ACCOUNTING = _names(
    f"{_HERE}.accounting",
    "GaussianPrivacyEvent NeighboringRelation PrivacyAccountant PrivacyConfig PrivacySpent "
    "RdpAccountant SamplingMethod",
)
_CLIENTS = _names(f"{_HERE}.clients", "Client NumPyClient")
_GRID = {"Grid": "umbel.serverapp:Grid"}
_DRIVER = {"Driver": "umbel.serverapp:Grid"}
_SERVER_APP = _names(f"{_HERE}.server_app", "ServerApp ServerAppComponents")
_MANAGERS = _names(f"{_HERE}.managers", "ClientManager SimpleClientManager")
_OLD_SERVER = _names(
    f"{_HERE}.old_server",
    "EvaluateResultsAndFailures FitResultsAndFailures Server ServerConfig evaluate_clients "
    "fit_clients",
)
_HISTORY = _names(f"{_HERE}.history", "History")
_OLD_STRATEGY = {"Strategy": f"{_HERE}.old_strategy:Strategy"}
_OLD_STRATEGIES = (
    _names(
        f"{_HERE}.old_strategies", " ".join(["FaultTolerantFedAvg", "FedAvg", "FedProx", *RULES])
    )
    | _names(f"{_HERE}.old_qfedavg", "QFedAvg")
    | _names(f"{_HERE}.old_trees", "FedXgbBagging FedXgbCyclic")
)
_OLD_DP = _names(f"{_HERE}.old_dp", _DP_WRAPPERS)
_OLD_DPFEDAVG = _names(f"{_HERE}.old_dpfedavg", "DPFedAvgAdaptive DPFedAvgFixed")
_STRATEGY = {
    "Result": "umbel.serverapp:Result",
    "Strategy": f"{_HERE}.message_strategies:Strategy",
}
_DP_STRATEGIES = _names(f"{_HERE}.dp_strategies", _DP_WRAPPERS)
_STRATEGIES = _names(f"{_HERE}.message_strategies", " ".join(ADOPTED)) | _DP_STRATEGIES
_STRATEGY_PARTS = _names(
    f"{_HERE}.message_strategies",
    "aggregate_arrayrecords aggregate_metricrecords log_strategy_start_info sample_nodes",
)
_WORKFLOW = _names(f"{_HERE}.workflows", "DefaultWorkflow")
_SECAGG_WORKFLOWS = _names(f"{_HERE}.secagg_workflows", "SecAggPlusWorkflow SecAggWorkflow")
_SECAGG_MODS = _names(f"{_HERE}.secagg_workflows", "secagg_mod secaggplus_mod")
_LOGS = _names(f"{_HERE}.logs", "configure log logger update_console_handler")
_SETTINGS = _names(f"{_HERE}.settings", "flatten_dict fuse_dicts parse_config_args unflatten_dict")
_START_SERVER = _names(f"{_HERE}.connected", "start_server")
_START_CLIENT = _names(f"{_HERE}.connected", "start_client start_numpy_client")
_SIMULATION = _names(f"{_HERE}.simulations", "run_simulation start_simulation")

MODULES: dict[str, Names] = {
    "app": _RECORDS | _VALUES,
    "client": _CLIENTS | _CLIENT_APP | _START_CLIENT,
    "client.app": {},
    "client.client": _names(f"{_HERE}.clients", "Client"),
    "client.client_app": _CLIENT_APP,
    "client.dpfedavg_numpy_client": _names(f"{_HERE}.old_dpfedavg", "DPFedAvgNumPyClient"),
    "client.mod": _MODS | _SECAGG_MODS,
    "client.numpy_client": _names(f"{_HERE}.clients", "NumPyClient"),
    "client.typing": {
        "ClientAppCallable": "umbel.clientapp:Handler",
        "Mod": "umbel.clientapp:Mod",
        "ClientFn": f"{_HERE}.client_app:ClientFn",
        "ClientFnExt": f"{_HERE}.client_app:ClientFnExt",
    },
    "clientapp": {
        "ClientApp": f"{_HERE}.client_app:ClientApp",
        "ClientAppException": "umbel.base:UmbelError",
        "LoadClientAppError": "umbel.base:AppLoadError",
    },
    "clientapp.client_app": _CLIENT_APP,
    "clientapp.mod": _MODS,
    "clientapp.typing": {
        "ClientAppCallable": "umbel.clientapp:Handler",
        "Mod": "umbel.clientapp:Mod",
    },
    "common": _RECORDS
    | _VALUES
    | _OLD_RECORDS
    | _PARAMETERS
    | _INSTRUCTIONS
    | _names(f"{_HERE}.logs", "configure log")
    | {"array_from_numpy": "umbel.records:Array"},
    "common.config": _SETTINGS,
    "common.constant": {"ErrorCode": "umbel.records:ErrorCode"},
    "common.context": _names("umbel.records", "Context"),
    "common.differential_privacy": _DP_NORMS | _DP_CONSTANTS,
    "common.differential_privacy_constants": _DP_CONSTANTS,
    "common.logger": _LOGS,
    "common.message": _names("umbel.records", "Error Message Metadata"),
    "common.parameter": _PARAMETERS,
    "common.record": _RECORDS | _OLD_RECORDS,
    "common.typing": _INSTRUCTIONS | _PARAMETERS | _VALUES,
    "server": _GRID
    | _DRIVER
    | _SERVER_APP
    | _MANAGERS
    | _HISTORY
    | _START_SERVER
    | _names(f"{_HERE}.old_server", "Server ServerConfig")
    | _names(f"{_HERE}.server_app", "LegacyContext"),
    "server.app": {},
    "server.client_manager": _MANAGERS,
    "server.client_proxy": _names(f"{_HERE}.managers", "ClientProxy"),
    "server.compat": _names(f"{_HERE}.server_app", "LegacyContext"),
    "server.criterion": _names(f"{_HERE}.managers", "Criterion"),
    "server.driver": _DRIVER,
    "server.grid": _GRID,
    "server.history": _HISTORY,
    "server.server": _OLD_SERVER,
    "server.server_app": _names(f"{_HERE}.server_app", "ServerApp"),
    "server.server_config": _names(f"{_HERE}.old_server", "ServerConfig"),
    "server.serverapp_components": _names(f"{_HERE}.server_app", "ServerAppComponents"),
    "server.strategy": _OLD_STRATEGY | _OLD_STRATEGIES | _OLD_DP | _OLD_DPFEDAVG,
    "server.strategy.dp_adaptive_clipping": _OLD_DP,
    "server.strategy.dp_fixed_clipping": _OLD_DP,
    "server.strategy.dpfedavg_adaptive": _OLD_DPFEDAVG,
    "server.strategy.dpfedavg_fixed": _OLD_DPFEDAVG,
    "server.strategy.aggregate": _names(
        f"{_HERE}.means",
        "aggregate aggregate_bulyan aggregate_inplace aggregate_krum aggregate_median "
        "aggregate_qffl aggregate_trimmed_avg weighted_loss_avg",
    ),
    "server.strategy.strategy": _OLD_STRATEGY,
    "server.workflow": _WORKFLOW | _SECAGG_WORKFLOWS,
    "server.workflow.constant": _names(
        f"{_HERE}.workflows", "Key MAIN_CONFIGS_RECORD MAIN_PARAMS_RECORD"
    ),
    "server.workflow.default_workflows": _WORKFLOW,
    "serverapp": _names(f"{_HERE}.server_app", "ServerApp") | _GRID | _ACCOUNTING,
    "serverapp.exception": {
        "AggregationError": "umbel.base:AggregationError",
        "AppExitException": "umbel.base:UmbelError",
        "InconsistentMessageReplies": "umbel.base:RejectedReply",
        "PrivacyBudgetExhausted": "umbel.base:PrivacyBudgetExhausted",
    },
    "serverapp.strategy": _STRATEGY | _STRATEGIES,
    "serverapp.strategy.dp_adaptive_clipping": _DP_STRATEGIES,
    "serverapp.strategy.dp_fixed_clipping": _DP_STRATEGIES,
    "serverapp.strategy.result": {"Result": "umbel.serverapp:Result"},
    "serverapp.strategy.strategy": _names(f"{_HERE}.message_strategies", "Strategy"),
    "serverapp.strategy.strategy_utils": _STRATEGY_PARTS,
    "simulation": _SIMULATION,
}
"""Every module that is served, by its name in Flower."""

MODULES |= {
    f"server.strategy.{name.lower()}": {name: reference}
    for name, reference in _OLD_STRATEGIES.items()
}
MODULES |= {
    f"serverapp.strategy.{name.lower()}": {name: reference}
    for name, reference in _STRATEGIES.items()
    if name not in _DP_STRATEGIES
}

DEPRECATED = {
    "ConfigsRecord": "ConfigRecord",
    "Driver": "Grid",
    "MetricsRecord": "MetricRecord",
    "ParametersRecord": "ArrayRecord",
    "RecordSet": "RecordDict",
    "array_from_numpy": "Array",
}
"""Old names, and what to write instead."""
