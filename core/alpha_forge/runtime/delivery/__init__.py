"""From predictions to sinks: one log, one cursor and one worker a sink."""
