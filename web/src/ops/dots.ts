// Thousands of trips over the map: dots that glide to their next position, clusters from far away.

import { type Camera, Projection } from "../map/mercator.ts";
import type { FleetTrip } from "./fleet.ts";

export type Tone = "live" | "stale" | "lost" | "none";

const GLIDE_MS = 1000;
// Jumps of more than so many degrees are shown as such.
const GLIDE_DEGREES = 0.02;
const CLUSTER_BELOW_ZOOM = 13;
const CELL_PX = 56;
const DOT_PX = 6;
const HIT_PX = 14;
const FRAME_MS = 32;

interface Dot {
  trip: FleetTrip;
  fromX: number;
  fromY: number;
  toX: number;
  toY: number;
  since: number;
}

export interface DotColours extends Record<Tone, string> {
  casing: string;
  text: string;
  cluster: string;
  clusterText: string;
  selected: string;
}

export const toneOf = (trip: FleetTrip): Tone => trip.freshness_state ?? "none";

export class Dots {
  readonly canvas = document.createElement("canvas");
  private readonly context = this.canvas.getContext("2d", { willReadFrequently: true })!;
  private readonly dots = new Map<string, Dot>();
  private sprites = new Map<Tone, HTMLCanvasElement>();
  private camera: Camera | null = null;
  private frame = 0;
  private last = 0;
  private ratio = 1;
  private shown: (trip: FleetTrip) => boolean = () => true;
  selected: string | null = null;

  constructor(private colours: DotColours) {
    this.canvas.className = "dots";
  }

  setColours(colours: DotColours): void {
    this.colours = colours;
    this.sprites.clear();
    this.draw();
  }

  setCamera(camera: Camera): void {
    this.camera = camera;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.round(camera.width * ratio);
    const height = Math.round(camera.height * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      Object.assign(this.canvas, { width, height });
      this.ratio = ratio;
      this.sprites.clear();
    }
    this.draw();
  }

  filter(shown: (trip: FleetTrip) => boolean): void {
    this.shown = shown;
    this.draw();
  }

  update(trips: readonly FleetTrip[], removed: readonly string[], all: boolean): void {
    const now = performance.now();
    if (all) this.dots.clear();
    for (const trip of trips) this.place(trip, now);
    for (const id of removed) this.dots.delete(id);
    this.wake();
  }

  private place(trip: FleetTrip, now: number): void {
    const { booking_id: id, longitude, latitude } = trip;
    if (longitude === null || latitude === null) return;
    const dot = this.dots.get(id);
    if (dot === undefined) {
      this.dots.set(id, { trip, fromX: longitude, fromY: latitude, toX: longitude, toY: latitude,
        since: 0 });
      return;
    }
    const share = Math.min(1, (now - dot.since) / GLIDE_MS);
    const x = dot.fromX + (dot.toX - dot.fromX) * share;
    const y = dot.fromY + (dot.toY - dot.fromY) * share;
    const near = Math.abs(longitude - x) + Math.abs(latitude - y) < GLIDE_DEGREES;
    Object.assign(dot, { trip, toX: longitude, toY: latitude, since: now,
      fromX: near ? x : longitude, fromY: near ? y : latitude });
  }

  private wake(): void {
    if (this.frame === 0 && document.visibilityState === "visible") {
      this.frame = requestAnimationFrame((at) => this.step(at));
    }
  }

  private step(at: number): void {
    this.frame = 0;
    if (at - this.last < FRAME_MS - 4) return this.wake();
    this.last = at;
    if (this.draw()) this.wake();
  }

  /** True while something glides. */
  draw(): boolean {
    const { camera, context } = this;
    if (camera === null) return false;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    const clustered = camera.zoom < CLUSTER_BELOW_ZOOM && this.dots.size > 50;
    return clustered ? this.drawClusters(camera) : this.drawDots(camera, performance.now());
  }

  private drawDots(camera: Camera, now: number): boolean {
    const to = new Projection(camera);
    let moving = false;
    for (const dot of this.dots.values()) {
      if (!this.shown(dot.trip)) continue;
      const share = Math.min(1, (now - dot.since) / GLIDE_MS);
      moving ||= share < 1 && (dot.fromX !== dot.toX || dot.fromY !== dot.toY);
      const x = to.x(dot.fromX + (dot.toX - dot.fromX) * share);
      const y = to.y(dot.fromY + (dot.toY - dot.fromY) * share);
      if (x < -20 || y < -20 || x > camera.width + 20 || y > camera.height + 20) continue;
      const size = 2 * (DOT_PX + 2);
      this.context.drawImage(this.sprite(toneOf(dot.trip)), x - size / 2, y - size / 2, size, size);
      if (dot.trip.booking_id === this.selected) this.ring(x, y);
    }
    return moving;
  }

  /** Cells stand on the globe, not on the screen: a cluster does not flicker while the map moves. */
  private drawClusters(camera: Camera): boolean {
    const to = new Projection(camera);
    const cell = CELL_PX / (512 * 2 ** Math.floor(camera.zoom));
    const cells = new Map<string, { count: number; x: number; y: number; bad: number }>();
    for (const { trip, toX, toY } of this.dots.values()) {
      if (!this.shown(trip)) continue;
      const key = `${Math.floor((toX + 180) / 360 / cell)} ${Math.floor((toY + 90) / 360 / cell)}`;
      const found = cells.get(key) ?? { count: 0, x: 0, y: 0, bad: 0 };
      found.count += 1;
      found.x += toX;
      found.y += toY;
      if (toneOf(trip) !== "live") found.bad += 1;
      cells.set(key, found);
    }
    for (const { count, x, y, bad } of cells.values()) {
      this.cluster(to.x(x / count), to.y(y / count), count, bad / count);
    }
    return false;
  }

  private cluster(x: number, y: number, count: number, bad: number): void {
    const { context, colours } = this;
    const radius = count === 1 ? DOT_PX : 12 + 4 * Math.log10(count) * 1.6;
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fillStyle = colours.cluster;
    context.fill();
    context.lineWidth = 4;
    context.strokeStyle = colours.live;
    context.stroke();
    if (bad > 0) {
      context.beginPath();
      context.arc(x, y, radius, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * bad);
      context.strokeStyle = colours.stale;
      context.stroke();
    }
    if (count === 1) return;
    context.fillStyle = colours.clusterText;
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(String(count), x, y);
  }

  private ring(x: number, y: number): void {
    this.context.beginPath();
    this.context.arc(x, y, DOT_PX + 7, 0, 7);
    this.context.lineWidth = 3;
    this.context.strokeStyle = this.colours.selected;
    this.context.stroke();
  }

  /** Drawn once for each tone: an image is copied faster than a circle is filled. */
  private sprite(tone: Tone): HTMLCanvasElement {
    let sprite = this.sprites.get(tone);
    if (sprite !== undefined) return sprite;
    sprite = document.createElement("canvas");
    const size = 2 * (DOT_PX + 2) * this.ratio;
    sprite.width = sprite.height = size;
    const context = sprite.getContext("2d")!;
    context.beginPath();
    context.arc(size / 2, size / 2, DOT_PX * this.ratio, 0, 7);
    context.fillStyle = this.colours[tone];
    context.fill();
    context.lineWidth = 2 * this.ratio;
    context.strokeStyle = this.colours.casing;
    context.stroke();
    this.sprites.set(tone, sprite);
    return sprite;
  }

  /** The trip under a point of the screen. */
  at(x: number, y: number): FleetTrip | null {
    if (this.camera === null) return null;
    const to = new Projection(this.camera);
    let best: FleetTrip | null = null;
    let nearest = HIT_PX;
    for (const { trip, toX, toY } of this.dots.values()) {
      const away = Math.hypot(to.x(toX) - x, to.y(toY) - y);
      if (away < nearest && this.shown(trip)) [best, nearest] = [trip, away];
    }
    return best;
  }

  places(): { longitude: number; latitude: number }[] {
    return [...this.dots.values()]
      .filter(({ trip }) => this.shown(trip))
      .map(({ toX, toY }) => ({ longitude: toX, latitude: toY }));
  }
}
