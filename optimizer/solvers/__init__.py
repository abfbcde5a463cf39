"""Ways to solve a program: exactly, nearly, and by others for comparison."""
