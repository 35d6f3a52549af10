"""What a single notebook draws and asks: the tape of 02, the builds and the debugger of 10."""
