"""Is "not installed" in the local head's processes, as `rfc3987_syntax`: compiling its patterns takes each 0.06 s."""

raise ImportError("left out for a quick start")
