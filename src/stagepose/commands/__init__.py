"""The verbs of the command line, one function each: arguments in, rooms called, lines printed."""
