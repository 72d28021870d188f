"""What is said to users: an exception for bad input, a warning for what goes on otherwise than they may think."""


class InputError(Exception):
    """Bad input: the message is one line that says what is wrong, where, and what to do about it.

    Commands print it and exit with status 2; anything else that is raised is a defect of the program.
    """


class EngineWarning(UserWarning):
    """The work goes on, but slower or elsewhere than asked for: one line that says how, and the remedy.

    Commands print it without its place in the code; a program filters it like any other warning.
    """
