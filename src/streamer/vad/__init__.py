"""Finding speech: the batched scorer and the endpointer."""
