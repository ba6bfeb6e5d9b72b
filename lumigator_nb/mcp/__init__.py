"""A Model Context Protocol server: coding assistants choose a model for their users through it.

`tools` has what an assistant can do, without the protocol; `server` speaks it, over stdio and HTTP.
"""
