"""The whole server in memory on a clock of its own: sessions, manager, engine, models, clients, from one seed."""
