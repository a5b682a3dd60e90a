// Playing: the frames in order, at a pace that does not depend on the screen.

/** Seconds that a whole sweep takes at speed 1. */
const SWEEP_SECONDS = 4;

class Player {
  /** @param {{show: (k: number) => void, onChange: (isPlaying: boolean) => void}} handlers */
  constructor({ show, onChange }) {
    this.show = show;
    this.onChange = onChange;
    this.speed = 1;
    this.isLooping = false;
    this.request = 0;
  }

  get isPlaying() {
    return this.request !== 0;
  }

  /** Plays from frame `k` of `count`, or from the start if that is the last one. */
  start(k, count) {
    if (this.isPlaying || count < 2) return;
    let position = k >= count - 1 ? 0 : k;
    let last = performance.now();
    const step = (now) => {
      position += ((now - last) / 1000) * this.speed * (count / SWEEP_SECONDS);
      last = now;
      if (position >= count && this.isLooping) position %= count;
      this.show(Math.min(Math.floor(position), count - 1));
      if (position >= count) this.stop();
      else this.request = requestAnimationFrame(step);
    };
    this.request = requestAnimationFrame(step);
    this.onChange(true);
  }

  stop() {
    if (!this.isPlaying) return;
    cancelAnimationFrame(this.request);
    this.request = 0;
    this.onChange(false);
  }
}
