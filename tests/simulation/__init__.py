"""The whole server in memory on a clock of its own: sessions, conductor, engine, models, clients, from one seed."""
