"""Files: the store, the names of its objects, the results of workflows, and the answer cache."""
