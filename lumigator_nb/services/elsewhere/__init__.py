"""Results from elsewhere: answers, tables and files of other tools, compared without a workspace."""
