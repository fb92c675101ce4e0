// The buttons of a playback: play, time, pace, follow; and the frames while it plays.

import type { TripLayer } from "../map/trip-layer.ts";
import type { Shown } from "../motion/playout.ts";
import { element, setText } from "../page/element.ts";
import * as words from "../page/words.ts";
import { Playback } from "./playback.ts";
import type { Point } from "./record.ts";

const PACES = [1, 10, 30, 120];
const USUAL_PACE = 30;
const FRAME_MS = 32;
const STEPS = 1000;

export interface PlayerEvents {
  /** The recorded time that is shown. */
  at(at: number): void;
  /** Keep the marker in view; `always`: bring it to the middle. */
  follow(always: boolean): void;
}

export class Player {
  readonly node: HTMLElement;
  private readonly play = element("button", { type: "button", class: "primary" });
  private readonly slider = element("input", { type: "range", min: "0", max: String(STEPS) });
  private readonly pace = element("select");
  private readonly clock = element("output");
  private readonly followed = element("button", { type: "button" });
  private readonly playback: Playback;
  private isFollowing = false;
  private frame = 0;
  private last = 0;

  constructor(
    private readonly layer: TripLayer,
    private readonly told: PlayerEvents,
  ) {
    const text = words.words;
    this.playback = new Playback(layer.playout);
    for (const pace of PACES) {
      const option = element("option", { value: String(pace) }, `${pace} ×`);
      option.selected = pace === USUAL_PACE;
      this.pace.append(option);
    }
    this.pace.setAttribute("aria-label", text.opsPace);
    this.slider.setAttribute("aria-label", text.opsTime);
    this.node = element("div", { class: "player" },
      this.play, this.slider, this.pace, this.clock, this.followed);
    this.play.addEventListener("click", () => this.toggle());
    this.followed.addEventListener("click", () => this.follow(!this.isFollowing));
    this.slider.addEventListener("input", () => {
      const { begin, end } = this.playback;
      this.go(begin + ((end - begin) * Number(this.slider.value)) / STEPS);
    });
    setText(this.play, text.opsPlay);
    this.follow(false);
  }

  show(points: readonly Point[]): void {
    this.stop();
    this.follow(false);
    const shown = this.playback.load(points);
    this.layer.shown = shown;
    this.layer.setRoute(points);
    this.draw(performance.now(), shown);
  }

  /** Show the trip as it was at that recorded time. */
  go(at: number): void {
    this.draw(performance.now(), this.playback.seek(at));
  }

  follow(isFollowing: boolean): void {
    this.isFollowing = isFollowing;
    this.followed.setAttribute("aria-pressed", String(isFollowing));
    setText(this.followed, isFollowing ? words.words.following : words.words.follow);
    if (isFollowing) this.told.follow(true);
  }

  stop(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.layer.settle();
    setText(this.play, words.words.opsPlay);
  }

  /** True while more frames are needed. */
  private draw(frameAt: number, shown: Shown | null): boolean {
    const { begin, end, now } = this.playback;
    const at = Math.max(begin, Math.min(end, now));
    const share = end > begin ? (at - begin) / (end - begin) : 1;
    this.slider.value = String(Math.round(STEPS * share));
    const text = shown === null ? "" : words.dayAndSecond(at);
    setText(this.clock, text);
    this.slider.setAttribute("aria-valuetext", text);
    const isMoving = this.layer.show(shown, frameAt);
    this.told.at(at);
    if (this.isFollowing) this.told.follow(false);
    return isMoving;
  }

  private toggle(): void {
    if (this.frame !== 0) return this.stop();
    if (this.playback.isOver) this.go(this.playback.begin);
    setText(this.play, words.words.opsPause);
    this.follow(true);
    this.last = performance.now();
    const step = (frameAt: number): void => {
      this.frame = requestAnimationFrame(step);
      const elapsed = frameAt - this.last;
      if (elapsed < FRAME_MS - 4) return;
      this.last = frameAt;
      const until = this.playback.now + elapsed * Number(this.pace.value);
      const isMoving = this.draw(frameAt, this.playback.advance(until));
      if (this.playback.isOver && !isMoving) this.stop();
    };
    this.frame = requestAnimationFrame(step);
  }
}
