// A view of the frames of a sweep: stepping, playing and looping, by button and by key.

const BIG_STEP = 10;

/** Such a view provides `levels`, the s of its frames (none before they are there), `s`, and `moveToFrame(k)`. */
class FrameView extends View {
  constructor(element) {
    super(element);
    this.slider = this.find("input");
    this.player = new Player({ show: (k) => this.moveToFrame(k), onChange: (isPlaying) => this.onPlaying(isPlaying) });
  }

  dispose() {
    super.dispose();
    this.player.stop();
  }

  /** @param {Object<string, () => void>} own what the buttons do that not every such view has, by their names. */
  bindControls(own) {
    const shared = {
      back: () => this.stepBy(-1),
      forward: () => this.stepBy(1),
      play: () => this.togglePlay(),
      loop: () => this.toggleLoop(),
    };
    this.bindButtons({ ...shared, ...own });
    this.slider.oninput = () => this.scrubTo(Number(this.slider.value));
    this.slider.onchange = () => this.commit();
    this.slider.onpointerdown = () => this.player.stop();
    this.element.onkeydown = (event) => this.onKey(event);
    this.enableControls(false);
  }

  get last() {
    return this.levels.length - 1;
  }

  get frame() {
    return this.frameAt(this.s);
  }

  frameAt(s) {
    return nearestIndex(this.levels, s);
  }

  /** The hand takes over from the player. */
  scrubTo(k) {
    this.player.stop();
    this.moveToFrame(k);
  }

  stepBy(frames) {
    this.scrubTo(clamp(this.frame + frames, 0, this.last));
    this.commitAfterRest();
  }

  onKey(event) {
    if (!this.levels.length || event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.onOwnKey(event) || this.onFrameKey(event)) event.preventDefault();
  }

  /** @returns {boolean} whether the view has done something of its own with the key. */
  onOwnKey() {
    return false;
  }

  onFrameKey({ key, target }) {
    // Menus need their arrow keys, and Space presses a button that has the focus.
    if (target.matches("select") || (key === " " && target.matches("button"))) return false;
    const steps = {
      ArrowLeft: -1,
      ArrowDown: -1,
      ArrowRight: 1,
      ArrowUp: 1,
      PageDown: -BIG_STEP,
      PageUp: BIG_STEP,
      Home: -this.last,
      End: this.last,
    };
    if (key === " ") this.togglePlay();
    else if (key in steps) this.stepBy(steps[key]);
    else return false;
    return true;
  }

  togglePlay() {
    clearTimeout(this.rest);
    if (this.player.isPlaying) this.player.stop();
    else this.player.start(this.frame, this.levels.length);
  }

  onPlaying(isPlaying) {
    write(this.button("play"), isPlaying ? "Pause" : "Play");
    if (!isPlaying) this.commit();
  }

  toggleLoop() {
    this.player.isLooping = !this.player.isLooping;
    this.button("loop").setAttribute("aria-pressed", this.player.isLooping);
  }
}
