// A replay's WebSocket: what the server sends of it, what the person wants of it, and coming back.

import type { LocationUpdate } from "../../client/src/messages.ts";

// A client may send one message a second: who holds an arrow key down asks more often.
const SAY_EVERY_MS = 1_100;
const BACK_LEAST_MS = 1_000;
const BACK_MOST_MS = 15_000;

export interface ReplayWelcome {
  type: "welcome";
  last_position: LocationUpdate | null;
  replay: { speed: number; order: string; from: string | null; to: string | null };
}

export interface ReplayAnswer {
  type: "replay";
  at: string;
  speed: number;
  paused: boolean;
  sought: boolean;
  last_position: LocationUpdate | null;
}

export interface ReplayGap {
  type: "gap";
  from: string;
  to: string;
  silent_s: number;
  shown_s: number;
}

export interface StreamEvents {
  /** A connection begins: tell it where the replay stands. */
  opened(): void;
  position(fix: LocationUpdate): void;
  answered(answer: ReplayAnswer): void;
  silent(gap: ReplayGap): void;
  /** Everything was shown. */
  finished(): void;
  /** It ended, and is tried again if the person still plays it. */
  interrupted(): void;
  /** There is no use in coming back. */
  refused(code: number): void;
}

type Token = (why: "join" | "expiring" | "expired") => Promise<string>;
type Message = LocationUpdate | ReplayAnswer | ReplayGap | ReplayWelcome | { type: "token_expiring" };

export class ReplayStream {
  private socket: WebSocket | null = null;
  private wish = ""; // the newest `seek`, until it may be sent
  private saidAt = Number.NEGATIVE_INFINITY;
  private timer = 0;
  private failures = 0;
  private attempt = 0;

  constructor(
    private readonly path: string,
    private readonly token: Token,
    private readonly told: StreamEvents,
  ) {}

  get isOpen(): boolean {
    return this.socket !== null;
  }

  async open(speed: number, why: "join" | "expired" = "join"): Promise<void> {
    this.close();
    const attempt = (this.attempt += 1);
    let token: string;
    try {
      token = await this.token(why);
    } catch {
      return this.told.refused(4501);
    }
    if (attempt !== this.attempt) return;
    const url = `${location.origin.replace(/^http/, "ws")}${this.path}?replay=${speed}`;
    const socket = new WebSocket(url, ["tracking.v1", `bearer.${token}`]);
    this.socket = socket;
    socket.onmessage = (event) => this.heard(JSON.parse(String(event.data)) as Message);
    socket.onclose = ({ code }) => this.ended(code);
  }

  /** Nothing more is heard of it. */
  close(): void {
    this.attempt += 1;
    clearTimeout(this.timer);
    this.timer = 0;
    this.wish = "";
    if (this.socket === null) return;
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }

  say(message: object): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** Now, or when the server hears it again; of several the last one. */
  seek(at: number): void {
    this.wish = JSON.stringify({ type: "seek", to: new Date(at).toISOString() });
    if (this.timer !== 0) return;
    const wait = this.saidAt + SAY_EVERY_MS - performance.now();
    if (wait <= 0) this.grant();
    else this.timer = window.setTimeout(() => this.grant(), wait);
  }

  /** After a time that grows; nothing is heard of it if it was closed meanwhile. */
  comeBack(speed: number): void {
    const wait = Math.min(BACK_LEAST_MS * 2 ** this.failures, BACK_MOST_MS) * (0.5 + Math.random() / 2);
    this.failures += 1;
    this.timer = window.setTimeout(() => void this.open(speed), wait);
  }

  private grant(): void {
    this.timer = 0;
    if (this.wish === "" || this.socket?.readyState !== WebSocket.OPEN) return;
    this.saidAt = performance.now();
    this.socket.send(this.wish);
    this.wish = "";
  }

  private heard(message: Message): void {
    switch (message.type) {
      case "welcome":
        this.failures = 0;
        return this.told.opened();
      case "location_update": return this.told.position(message);
      case "replay": return this.told.answered(message);
      case "gap": return this.told.silent(message);
      case "token_expiring": return void this.refresh();
      default: // a later version's
    }
  }

  /** Without a new token the server closes with 4401, and we come back with one. */
  private async refresh(): Promise<void> {
    const { socket } = this;
    try {
      const token = await this.token("expiring");
      if (socket === this.socket) this.say({ type: "refresh", token });
    } catch {
      // then it ends
    }
  }

  private ended(code: number): void {
    this.close();
    if (code === 1000) this.told.finished();
    else if (code >= 4500) this.told.refused(code);
    else this.told.interrupted();
  }
}
