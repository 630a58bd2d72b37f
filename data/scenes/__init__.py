"""What synthetic videos show: textured things that move, drawn with their exact masks."""
