"""The one exception that stands for bad input."""


class InputError(Exception):
    """Bad input: the message is one line that says what is wrong, where, and what to do about it.

    Commands print it and exit with status 2; anything else that is raised is a defect of the program.
    """
