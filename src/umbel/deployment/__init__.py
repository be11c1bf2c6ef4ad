"""Deployment: server and nodes on machines of their own, over gRPC and TLS."""
