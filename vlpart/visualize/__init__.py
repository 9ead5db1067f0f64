"""Images of results: `draw.draw_result` is the way in; numpy and Pillow only."""
