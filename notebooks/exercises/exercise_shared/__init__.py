"""What the checks of several exercises share. Their own modules import it by this name."""
