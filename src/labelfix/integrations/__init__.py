"""Evidence of a training that people have already; each module needs the library of its name."""
