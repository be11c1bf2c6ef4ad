"""The process that runs a client app for a node; it stands apart, so that it loads no gRPC."""
