"""What a model is, and the ones that come with Streamer."""
