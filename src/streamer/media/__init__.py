"""Compressed audio and containers to PCM: demuxers, decoders, and the MediaDecoder that joins them."""
