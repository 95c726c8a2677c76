"""The gRPC transport: calls become connections, errors become statuses. Needs the extra `streamer-audio[grpc]`."""
