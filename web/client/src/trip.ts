// Follows one trip over any number of connections and loses no waypoint.

import { Connection } from "./connection.ts";
import type { ServerMessage } from "./messages.ts";
import { Model } from "./model.ts";
import { cancel, later, monotonic, report, socketClass, type SocketClass, type Timer } from "./platform.ts";
import type { Change, TripState } from "./state.ts";

const LONGEST_WAIT_MS = 30_000;
// A connection that is opening for longer when the network is back was begun on the old one.
const STUCK_MS = 2_000;

/** Why a token is asked for: `expired` when the last one was, so that it must be a new one. */
export type Why = "join" | "expiring" | "expired";

export interface TripOptions {
  /** `https://host` or `wss://host`. */
  server: string;
  /** `/ws/tracking/<booking id>`, or `/ws/shared/<token of the link>`. */
  path: string;
  /** Without it no token is sent. If it fails it is asked again, later and later. */
  token?: (why: Why) => Promise<string>;
  /** False: no route at joining, only what happens from then on. */
  history?: boolean;
  /** At most one position in so many milliseconds; what is left out comes with `catchUp()`. */
  minIntervalMs?: number;
  /** Milliseconds that only grow; performance.now() if there is none. */
  now?: () => number;
  WebSocket?: SocketClass;
}

export class Trip {
  private readonly options: TripOptions;
  private readonly now: () => number;
  private readonly model: Model;
  private readonly listeners = new Set<(change: Change) => void>();
  private connection: Connection | null = null;
  private isRunning = false;
  private attempt = 0; // what an earlier attempt waited for comes too late
  private failures = 0;
  private retry: Timer = null;
  private notBefore = 0; // as the server asked for
  private token: string | null = null;
  private isTokenBad = false;

  constructor(options: TripOptions) {
    this.options = options;
    this.now = options.now ?? monotonic;
    this.model = new Model(options.history ?? true);
  }

  get state(): TripState {
    return this.model.state;
  }

  /** Until `stop`, or the trip is over, or there is no use in coming back. */
  start(): void {
    if (this.isRunning) return;
    this.isRunning = true;
    this.failures = 0;
    Object.assign(this.model.state, { closeCode: null, closeReason: "" });
    void this.connect();
  }

  /** What is known stays; `start` goes on behind it. */
  stop(): void {
    if (this.isRunning) this.finish("down", null, "stopped");
  }

  /** Called after the state has changed. Returns how to end that. */
  subscribe(listener: (change: Change) => void): () => void {
    const own = (change: Change) => listener(change); // the same function may be here twice
    this.listeners.add(own);
    return () => void this.listeners.delete(own);
  }

  /** The browser says that it is offline: believed when the server does not answer, either. */
  offline(): void {
    if (this.state.link === "open") this.probe();
  }

  /** The browser says that it is online again. */
  online(): void {
    this.wake();
  }

  /** The device or the page slept: come back now, and find out whether an open link still lives. */
  wake(): void {
    if (!this.isRunning) return;
    if (this.state.link === "down") this.comeBackNow();
    else if (this.state.link === "open" && this.connection?.isQuiet) this.probe();
    else if (this.isStuck()) {
      this.connection?.drop();
      void this.connect();
    }
  }

  /** Ask for what `minIntervalMs` left out of the route. */
  catchUp(): void {
    if (this.model.coverage.hasGap) this.ask();
  }

  private comeBackNow(): void {
    this.failures = 0;
    if (this.now() >= this.notBefore) void this.connect();
    else this.wait(this.notBefore - this.now());
  }

  private isStuck(): boolean {
    return this.connection !== null && this.state.link === "connecting"
      && this.now() - this.connection.since > STUCK_MS; // prettier-ignore
  }

  private async connect(): Promise<void> {
    cancel(this.retry);
    this.attempt += 1;
    const attempt = this.attempt;
    this.connection = null;
    this.change({ link: "connecting", retryAt: null });
    try {
      const token = (await this.options.token?.(this.why())) ?? null;
      if (attempt !== this.attempt) return;
      if (this.isTokenBad && token === this.token) this.finish("refused", 4501, "invalid token");
      else this.open(token);
    } catch (error) {
      if (attempt === this.attempt) this.comeBack(null, `no connection: ${String(error)}`);
    }
  }

  private why(): Why {
    const end = this.state.tokenExpiresAt;
    const isOver = this.state.closeCode === 4401 || (end !== null && end <= Date.now());
    return this.isTokenBad || isOver ? "expired" : "join";
  }

  private open(token: string | null): void {
    this.token = token;
    this.model.coverage.reconnect();
    const protocols = token === null ? ["tracking.v1"] : ["tracking.v1", `bearer.${token}`];
    const Class = this.options.WebSocket ?? socketClass();
    this.connection = new Connection(this.url(), protocols, Class, this.now, {
      message: (message) => this.received(message),
      ended: (code, reason) => this.ended(code, reason),
    });
  }

  private url(): string {
    const { server, path, history, minIntervalMs } = this.options;
    const { epoch, seq } = this.state;
    const query: string[] = [];
    if (epoch !== null) query.push(`epoch=${encodeURIComponent(epoch)}`, `since_seq=${seq}`);
    if (history === false) query.push("history=none");
    if (minIntervalMs) query.push(`min_interval_ms=${Math.round(minIntervalMs)}`);
    const url = server.replace(/^http/, "ws").replace(/\/+$/, "") + path;
    return query.length > 0 ? `${url}?${query.join("&")}` : url;
  }

  private received(message: ServerMessage): void {
    if (message.type === "welcome") {
      this.failures = 0;
      this.isTokenBad = false;
      this.connection?.expect(message.heartbeat_s);
      Object.assign(this.model.state, { link: "open", closeCode: null, closeReason: "" });
    }
    for (const change of this.model.apply(message, this.now())) this.tell(change);
    if (message.type === "token_expiring") void this.refresh();
    if (this.model.coverage.hasGap && !this.options.minIntervalMs) this.ask();
  }

  private ask(): void {
    const { coverage } = this.model;
    if (this.state.link === "open" && coverage.ask())
      this.connection?.say({ type: "catch_up", since_seq: coverage.seq });
  }

  /** A catch_up is always answered, even if there is nothing to catch up. */
  private probe(): void {
    this.connection?.probe({ type: "catch_up", since_seq: this.model.coverage.seq });
  }

  /** Without a new token the server closes with 4401, and we come back with one. */
  private async refresh(): Promise<void> {
    const { connection } = this;
    try {
      const token = await this.options.token?.("expiring");
      if (token === undefined || connection !== this.connection) return;
      this.token = token;
      connection?.say({ type: "refresh", token });
    } catch (error) {
      report(error);
    }
  }

  private ended(code: number, reason: string): void {
    this.connection = null;
    if (code === 1000) this.finish("over", code, reason);
    else if (code === 4501 && this.options.token && !this.isTokenBad) {
      this.isTokenBad = true; // the device's clock, or whoever keeps tokens, was wrong: once more
      void this.connect();
    } else if (code >= 4500) this.finish("refused", code, reason);
    else this.comeBack(code, reason);
  }

  /** After a random time that grows, but not before the server wants us. */
  private comeBack(closeCode: number | null, closeReason: string): void {
    const hint = 1000 * Number(/retry in (\d+) s/.exec(closeReason)?.[1] ?? 0);
    const backoff = Math.random() * Math.min(1000 * 2 ** this.failures, LONGEST_WAIT_MS);
    this.failures += 1;
    this.notBefore = this.now() + hint;
    Object.assign(this.model.state, { closeCode, closeReason });
    this.wait(Math.max(hint, backoff));
  }

  private wait(milliseconds: number): void {
    cancel(this.retry);
    this.retry = later(milliseconds, () => void this.connect());
    this.change({ link: "down", retryAt: this.now() + milliseconds });
  }

  private finish(link: "over" | "refused" | "down", closeCode: number | null, closeReason: string): void {
    this.isRunning = false;
    this.attempt += 1;
    cancel(this.retry);
    this.connection?.drop();
    this.connection = null;
    this.isTokenBad = false;
    this.change({ link, closeCode, closeReason, retryAt: null });
  }

  private change(values: Partial<TripState>): void {
    Object.assign(this.model.state, values);
    this.tell({ kind: "state" });
  }

  private tell(change: Change): void {
    for (const listener of [...this.listeners]) {
      try {
        listener(change);
      } catch (error) {
        report(error); // one bad listener hurts nobody else
      }
    }
  }
}
