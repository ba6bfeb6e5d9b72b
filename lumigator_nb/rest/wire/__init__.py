"""What goes over the wire: schemas, translation from and to them, documents."""
