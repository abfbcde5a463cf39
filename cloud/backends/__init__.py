"""What answers whole requests for the coordinator, behind one interface: text up, text down."""
