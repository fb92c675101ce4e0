// One WebSocket, from its opening to its end, and how long it has been silent.

import type { ClientMessage, ServerMessage } from "./messages.ts";
import { OPEN, cancel, later, type Socket, type SocketClass, type Timer } from "./platform.ts";

// Opening, and the first message: a phone on a bad network needs some seconds for TLS.
const CONNECT_MS = 10_000;
// An answer to a probe takes one round trip, and a database query: slow mobile links take seconds.
const PROBE_MS = 5_000;

/** Of a silent link; the number that the server uses for the same. */
export const SILENT = 4408;

export interface Events {
  message(message: ServerMessage): void;
  /** Once, and nothing comes after it. */
  ended(code: number, reason: string): void;
}

export class Connection {
  /** On the clock `now`. */
  readonly since: number;
  private heardAt: number;
  private heardOn = Date.now(); // the monotonic clock may stand still while the device sleeps
  private silenceMs = CONNECT_MS;
  private deadline: Timer;
  private probing = false;
  private readonly socket: Socket;
  private readonly now: () => number;
  private readonly events: Events;

  constructor(
    url: string,
    protocols: string[],
    Class: SocketClass,
    now: () => number,
    events: Events,
  ) {
    this.now = now;
    this.events = events;
    this.since = this.heardAt = now();
    this.socket = new Class(url, protocols);
    this.socket.onmessage = (event: { data: unknown }) => this.heard(event.data);
    this.socket.onclose = (event: { code: number; reason: string }) =>
      this.end(event.code, event.reason);
    this.socket.onerror = () => {}; // a close event follows
    this.watch(CONNECT_MS);
  }

  /** From now on something arrives at least so often, else the link is dead. */
  expect(heartbeatS: number): void {
    this.silenceMs = 2000 * heartbeatS;
    this.watch(this.silenceMs);
  }

  /** Whether even a heartbeat is overdue. */
  get isQuiet(): boolean {
    const silence = Math.max(this.now() - this.heardAt, Date.now() - this.heardOn);
    return silence > this.silenceMs / 2;
  }

  /** Ask for something that is always answered; without an answer the link is dead. */
  probe(question: ClientMessage): void {
    if (this.probing) return;
    this.probing = true;
    this.watch(PROBE_MS);
    this.say(question);
  }

  say(message: ClientMessage): void {
    if (this.socket.readyState === OPEN) this.socket.send(JSON.stringify(message));
  }

  /** Nobody hears of this connection any more. */
  drop(): void {
    cancel(this.deadline);
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close(); // on a dead link it may take minutes: nobody waits for it
  }

  private heard(data: unknown): void {
    this.heardAt = this.now();
    this.heardOn = Date.now();
    this.probing = false;
    this.watch(this.silenceMs);
    let message: ServerMessage;
    try {
      message = JSON.parse(data as string) as ServerMessage;
    } catch {
      this.end(1002, "not JSON");
      return;
    }
    this.events.message(message);
  }

  private watch(milliseconds: number): void {
    cancel(this.deadline);
    this.deadline = later(milliseconds, () => this.end(SILENT, "silent"));
  }

  private end(code: number, reason: string): void {
    this.drop();
    this.events.ended(code, reason);
  }
}
