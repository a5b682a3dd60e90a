// The moving t: from noise to sample in four seconds at speed 1, or back.

const RUN_SECONDS = 4;

class Clock {
  /** @param {{range: () => number[], show: (s: number) => void, onChange: (isPlaying: boolean) => void}} handlers */
  constructor({ range, show, onChange }) {
    this.range = range;
    this.show = show;
    this.onChange = onChange;
    this.speed = 1;
    this.isLooping = false;
    this.isReversed = false;
    this.request = 0;
  }

  get isPlaying() {
    return this.request !== 0;
  }

  /** Plays from `s`, or from the other end if `s` is where playing ends. */
  start(s) {
    if (this.isPlaying) return;
    const isAtEnd = s === this.end();
    this.s = isAtEnd ? this.begin() : s;
    this.last = performance.now();
    this.request = requestAnimationFrame((now) => this.tick(now));
    this.onChange(true);
  }

  tick(now) {
    const [low, high] = this.range();
    const sign = this.isReversed ? 1 : -1;
    this.s += (sign * this.speed * (high - low) * Math.max(0, now - this.last)) / (1000 * RUN_SECONDS);
    this.last = now;
    const hasEnded = this.isReversed ? this.s >= high : this.s <= low;
    if (hasEnded && this.isLooping) this.s = this.begin();
    this.s = clamp(this.s, low, high);
    this.show(this.s);
    if (hasEnded && !this.isLooping) this.stop();
    else this.request = requestAnimationFrame((next) => this.tick(next));
  }

  begin() {
    return this.range()[this.isReversed ? 0 : 1];
  }

  end() {
    return this.range()[this.isReversed ? 1 : 0];
  }

  stop() {
    if (!this.isPlaying) return;
    cancelAnimationFrame(this.request);
    this.request = 0;
    this.onChange(false);
  }
}
