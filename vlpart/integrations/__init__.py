"""Where people label: what was found, in the words and shapes of their tools."""
