// Which time of the trip is on show: set by what the server sends, and running between.

/** No DOM; `now` is milliseconds that only grow, the trip's time milliseconds since 1970. */
export class ReplayClock {
  private since = 0;
  private stopped = true;

  constructor(
    private time: number,
    private pace: number,
  ) {}

  at(now: number): number {
    return this.stopped ? this.time : this.time + (now - this.since) * this.pace;
  }

  set(time: number, now: number): void {
    this.time = time;
    this.since = now;
  }

  get speed(): number {
    return this.pace;
  }

  get isRunning(): boolean {
    return !this.stopped;
  }

  /** The time on show stays. */
  run(isRunning: boolean, pace: number, now: number): void {
    this.set(this.at(now), now);
    this.stopped = !isRunning;
    this.pace = pace;
  }
}
