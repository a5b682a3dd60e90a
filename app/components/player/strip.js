// Key frames of one run in a row, evenly spaced in s, with the present one marked; those to come are left blank.

const KEY_FRAMES = 8;

class FilmStrip {
  constructor(surface, run, panels, onJump) {
    this.surface = surface;
    this.run = run;
    this.panels = panels;
    const levels = run.arrays.s.values;
    const [high, low] = [levels[0], run.ended ? levels.at(-1) : 0];
    const count = run.ended ? Math.min(KEY_FRAMES, levels.length) : KEY_FRAMES;
    const wanted = Array.from({ length: count }, (_, i) => high + ((low - high) * i) / (count - 1));
    this.s = wanted.filter((s) => s >= levels.at(-1) - EPSILON);
    const rows = run.kind === "image" ? 2 : 1;
    surface.canvas.style.setProperty("--strip", KEY_FRAMES / rows);
    surface.canvas.onclick = (event) => {
      const box = surface.canvas.getBoundingClientRect();
      const frame = Math.floor(((event.clientX - box.left) / box.width) * KEY_FRAMES);
      if (frame < this.s.length) onJump(levels[momentOf(run, this.s[frame]).k]);
    };
  }

  prepare(theme) {
    this.theme = theme;
    this.present = null;
    this.tile = this.surface.width / KEY_FRAMES;
    this.surface.paintLayer((context) => {
      context.imageSmoothingEnabled = false;
      this.s.forEach((s, i) => {
        const frame = this.panels.keyFrame(momentOf(this.run, s).k);
        context.drawImage(frame, i * this.tile + 1, 1, this.tile - 3, this.surface.height - 2);
      });
    });
  }

  /** Marks the key frame that the run has reached; draws only if that is another one. */
  draw(s) {
    const { k } = momentOf(this.run, s);
    const present = this.s.findLastIndex((at) => momentOf(this.run, at).k <= k);
    if (present === this.present) return;
    this.present = present;
    const { context } = this.surface;
    this.surface.drawLayer();
    context.strokeStyle = this.theme.primary;
    context.lineWidth = 2;
    context.strokeRect(present * this.tile, 1, this.tile - 2, this.surface.height - 2);
  }
}
