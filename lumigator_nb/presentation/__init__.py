"""What screens know, without a user-interface library: views, forms, markup, and who tells them of changes."""
