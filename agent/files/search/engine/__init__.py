"""The program that searches: a process of its own, standard library only."""
