"""What the command lines of the scripts share."""
