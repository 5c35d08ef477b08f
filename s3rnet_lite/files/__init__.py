"""Reading and writing: checks of input, file formats, atomic writing, provenance and paths."""
