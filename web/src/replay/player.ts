// The controls with which an ended trip is shown again: play, time, speed; and its clock.

import type { LocationUpdate } from "../../client/src/messages.ts";
import { fixOf, milliseconds } from "../../client/src/route.ts";
import type { TripMap } from "../map/trip-map.ts";
import { element, setText } from "../page/element.ts";
import { afterTheTrip } from "../page/after-words.ts";
import { dayAndSecond, duration, words } from "../page/words.ts";
import { ReplayClock } from "./clock.ts";
import { type ReplayAnswer, type ReplayGap, ReplayStream } from "./stream.ts";

const SPEEDS = [1, 5, 10, 60];
const USUAL_SPEED = 10;
// An arrow key moves by so much of the trip.
const STEPS = 200;
const SHOWN_EVERY_MS = 200;

export interface Span {
  /** Milliseconds since 1970. */
  begin: number;
  end: number;
}

export class Player {
  readonly node = element("div", { class: "replay", role: "group" });
  private readonly play = element("button", { type: "button", class: "primary" });
  private readonly slider = element("input", { type: "range", min: "0", class: "time" });
  private readonly speed = element("select");
  private readonly time = element("output");
  private readonly note = element("p", { class: "note", role: "status" });
  private readonly stream: ReplayStream;
  private readonly clock: ReplayClock;
  private isPlaying = false;
  private hasBegun = false;
  private isSeeking = false; // until the server is there
  private isDragging = false;
  private timer = 0;

  constructor(
    path: string,
    token: (why: "join" | "expiring" | "expired") => Promise<string>,
    private readonly span: Span,
    private readonly map: () => TripMap | null,
  ) {
    this.clock = new ReplayClock(span.begin, USUAL_SPEED);
    this.stream = new ReplayStream(path, token, {
      opened: () => this.opened(),
      position: (message) => this.position(message),
      answered: (answer) => this.answered(answer),
      silent: (gap) => this.silent(gap),
      // What was sought may not have been said yet.
      finished: () => (this.isSeeking ? this.connect() : this.over()),
      interrupted: () => this.interrupted(),
      refused: () => this.refused(),
    });
    this.build();
    this.draw();
  }

  /** The page is left, or the trip is not over. */
  stop(): void {
    this.stream.close();
    this.over();
  }

  private build(): void {
    const text = afterTheTrip;
    this.node.setAttribute("aria-label", text.replay);
    for (const speed of SPEEDS) {
      const option = element("option", { value: String(speed) }, `${speed} ×`);
      option.selected = speed === USUAL_SPEED;
      this.speed.append(option);
    }
    this.speed.setAttribute("aria-label", text.speed);
    this.slider.setAttribute("aria-label", text.time);
    const seconds = Math.max(1, Math.ceil((this.span.end - this.span.begin) / 1000));
    this.slider.max = String(seconds);
    this.slider.step = String(Math.max(1, Math.round(seconds / STEPS)));
    this.node.append(this.play, this.slider, this.speed, this.time, this.note);
    this.play.addEventListener("click", () => (this.isPlaying ? this.pause() : this.start()));
    this.speed.addEventListener("change", () => this.changeSpeed(Number(this.speed.value)));
    this.slider.addEventListener("input", () => {
      this.isDragging = true;
      this.say(this.wanted());
    });
    this.slider.addEventListener("change", () => {
      this.isDragging = false;
      this.seek(this.wanted());
    });
    window.addEventListener("pagehide", () => this.stream.close());
  }

  private wanted(): number {
    return Math.min(this.span.begin + Number(this.slider.value) * 1000, this.span.end);
  }

  private start(): void {
    if (!this.hasBegun && this.clock.at(performance.now()) >= this.span.end) {
      this.clock.set(this.span.begin, performance.now());
    }
    this.begin();
    this.isPlaying = true;
    if (this.stream.isOpen) this.stream.say({ type: "resume" });
    else this.connect();
    this.draw();
  }

  private pause(): void {
    this.isPlaying = false;
    this.run(false);
    this.stream.say({ type: "pause" });
    this.draw();
  }

  private seek(at: number): void {
    this.begin();
    this.isSeeking = true;
    this.run(false);
    this.clock.set(at, performance.now());
    if (this.stream.isOpen) this.stream.seek(at);
    else this.connect();
    this.draw();
  }

  private changeSpeed(speed: number): void {
    this.clock.run(this.clock.isRunning, speed, performance.now());
    this.stream.say({ type: "speed", speed });
  }

  /** From now on the map shows the replay. */
  private begin(): void {
    if (this.hasBegun) return;
    this.hasBegun = true;
    setText(this.note, "");
    this.map()?.replay(() => this.clock.at(performance.now()));
    this.timer = window.setInterval(() => this.draw(), SHOWN_EVERY_MS);
  }

  private connect(): void {
    void this.stream.open(this.clock.speed);
  }

  /** A new connection begins at the first waypoint: it is told where we are. */
  private opened(): void {
    const at = this.clock.at(performance.now());
    setText(this.note, "");
    if (!this.isPlaying) this.stream.say({ type: "pause" });
    this.isSeeking = at > this.span.begin;
    if (this.isSeeking) return this.stream.seek(at);
    this.map()?.replay(() => this.clock.at(performance.now()));
    this.run(this.isPlaying);
  }

  private position(message: LocationUpdate): void {
    if (this.isSeeking) return; // sent before the server heard of it
    const now = performance.now();
    const at = milliseconds(message.recorded_at);
    if (!this.clock.isRunning && this.isPlaying) this.run(true);
    this.clock.set(at, now);
    setText(this.note, "");
    this.map()?.replayed(fixOf(message, at));
    this.draw();
  }

  private answered({ at, sought, paused, last_position }: ReplayAnswer): void {
    const now = performance.now();
    if (sought) {
      this.isSeeking = false;
      this.clock.set(milliseconds(at), now);
      this.map()?.replay(() => this.clock.at(performance.now()));
      if (last_position !== null) {
        const fix = fixOf(last_position, null);
        this.map()?.replayed({ ...fix, arrivedAt: fix.at });
      }
    } else if (!this.isSeeking) this.clock.set(milliseconds(at), now);
    if (!this.isSeeking) this.run(this.isPlaying && !paused);
    this.draw();
  }

  private silent({ to, silent_s, shown_s }: ReplayGap): void {
    if (this.isSeeking) return;
    this.clock.set(milliseconds(to) - shown_s * 1000 * this.clock.speed, performance.now());
    setText(this.note, afterTheTrip.silent(duration(silent_s * 1000)));
  }

  private over(): void {
    this.isPlaying = this.isSeeking = false;
    this.run(false);
    this.clock.set(this.span.end, performance.now());
    if (this.hasBegun) this.map()?.replay(null);
    this.hasBegun = false;
    clearInterval(this.timer);
    this.draw();
  }

  private interrupted(): void {
    this.run(false);
    if (!this.isPlaying) return; // the next button opens it again
    setText(this.note, words.link);
    this.stream.comeBack(this.clock.speed);
  }

  private refused(): void {
    this.over();
    setText(this.note, afterTheTrip.replayFailed);
  }

  private run(isRunning: boolean): void {
    this.clock.run(isRunning, this.clock.speed, performance.now());
  }

  private draw(): void {
    setText(this.play, this.isPlaying ? words.opsPause : afterTheTrip.play);
    if (this.isDragging) return;
    const { begin, end } = this.span;
    const at = Math.min(Math.max(this.clock.at(performance.now()), begin), end);
    this.slider.value = String(Math.round((at - begin) / 1000));
    this.say(at);
  }

  private say(at: number): void {
    const text = dayAndSecond(at);
    setText(this.time, text);
    this.slider.setAttribute("aria-valuetext", text);
  }
}
