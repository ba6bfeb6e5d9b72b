"""The part of the screens that needs no user-interface library: views, forms, markup, and the watcher of changes."""
