"""The dashboard's pages, drawn with Panel."""
