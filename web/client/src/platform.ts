// The few things of browsers, workers and Node that the library uses, without the types of any.

/** The part of WebSocket that is used. */
export interface Socket {
  readonly readyState: number;
  // `any`, for the DOM's own event types have to fit.
  onopen: ((event: any) => any) | null;
  onmessage: ((event: any) => any) | null;
  onclose: ((event: any) => any) | null;
  onerror: ((event: any) => any) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export type SocketClass = new (url: string, protocols: string[]) => Socket;

/** WebSocket.OPEN. */
export const OPEN = 1;

export type Timer = unknown;

interface Globals {
  WebSocket?: SocketClass;
  performance?: { now(): number };
  console?: { error(...values: unknown[]): void };
  reportError?: (error: unknown) => void;
  setTimeout(callback: () => void, milliseconds: number): Timer;
  clearTimeout(timer: Timer): void;
}

const globals = globalThis as unknown as Globals;

export function later(milliseconds: number, callback: () => void): Timer {
  return globals.setTimeout(callback, milliseconds);
}

export function cancel(timer: Timer): void {
  globals.clearTimeout(timer);
}

export function socketClass(): SocketClass {
  if (globals.WebSocket === undefined) throw new Error("no WebSocket here: pass one");
  return globals.WebSocket;
}

/** Milliseconds that no change of the wall clock moves. */
export function monotonic(): number {
  return globals.performance ? globals.performance.now() : Date.now();
}

/** An error of somebody else's code: told, and nothing stops. */
export function report(error: unknown): void {
  if (globals.reportError) globals.reportError(error);
  else globals.console?.error(error);
}
