"""Client-side components: what must follow the hand is drawn in the browser."""
