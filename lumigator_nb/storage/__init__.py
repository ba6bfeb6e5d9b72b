"""Files: the store, where things lie in it, results and the answer cache."""
