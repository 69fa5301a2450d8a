"""What statistics mean, as data: TOML files and the loaders that turn them into values. No statistics are read here."""
