"""Code interpreters: contexts that keep their variables from run to run."""
