"""Programs for people who work on the project; the package `tindra` never imports them."""
