"""One workflow on several processes of the cluster: who shares what, who is replaced, what comes back."""
