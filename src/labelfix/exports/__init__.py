"""The wing that writes data sets with mended labels, in the forms that other tools read."""
