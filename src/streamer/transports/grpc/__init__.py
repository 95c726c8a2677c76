"""The gRPC shell: calls to connections, failures to statuses. Needs the extra `streamer[grpc]`."""
