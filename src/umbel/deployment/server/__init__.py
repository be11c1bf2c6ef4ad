"""The server: the message plane for nodes and users, and the processes of server apps."""
