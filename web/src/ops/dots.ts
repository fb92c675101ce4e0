// Thousands of trips over the map: dots that glide to their next position, clusters from far away.

import { type Camera, Projection, worldX, worldY } from "../map/mercator.ts";
import { type ClusterColours, drawClusters } from "./cluster-picture.ts";
import { clustersOf } from "./clusters.ts";
import { type Disc, Discs, STEPS } from "./discs.ts";
import type { FleetTrip } from "./fleet.ts";

export type Tone = "live" | "stale" | "lost" | "none";

const GLIDE_MS = 1000;
// Of the world's width. Longer jumps are shown as such: 2 km on the equator.
const GLIDE_FARTHEST = 0.02 / 360;
const CLUSTER_BELOW_ZOOM = 13;
const CLUSTER_FROM = 50;
const DOT_PX = 7;
const CASING_PX = 2;
const HIT_PX = 14;
// Thirty frames a second.
const FRAME_MS = 33;
// A frame comes a little early or late.
const JITTER_MS = 5;

interface Dot {
  trip: FleetTrip;
  // Between 0 and 1 in the world: where it comes from, where it is to be.
  fromX: number;
  fromY: number;
  toX: number;
  toY: number;
  since: number;
  // Where it was drawn, in STEPS of a pixel.
  drawnX: number;
  drawnY: number;
}

/** As `#rrggbb`. */
export interface DotColours extends Record<Tone, string>, ClusterColours {
  casing: string;
  selected: string;
}

export const toneOf = (trip: FleetTrip): Tone => trip.freshness_state ?? "none";

export class Dots {
  readonly canvas = document.createElement("canvas");
  // In memory: nothing is to be gained from a GPU for a picture that comes from there.
  private readonly context = this.canvas.getContext("2d", { willReadFrequently: true })!;
  private readonly dots = new Map<string, Dot>();
  private discs: Discs | null = null;
  private image: ImageData | null = null;
  private readonly tones = new Map<Tone, Disc>();
  private camera: Camera | null = null;
  private frame = 0;
  private last = 0;
  private ratio = 1;
  private isOld = true; // the picture shows something else than what is known
  private shown: (trip: FleetTrip) => boolean = () => true;
  selected: string | null = null;

  constructor(private colours: DotColours) {
    this.canvas.className = "dots";
  }

  setColours(colours: DotColours): void {
    this.colours = colours;
    this.tones.clear();
    this.draw();
  }

  setCamera(camera: Camera): void {
    const before = this.camera;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const hasMoved = before === null || ratio !== this.ratio ||
      (Object.keys(camera) as (keyof Camera)[]).some((name) => camera[name] !== before[name]);
    if (!hasMoved) return;
    this.camera = camera;
    const width = Math.round(camera.width * ratio);
    const height = Math.round(camera.height * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height || this.ratio !== ratio) {
      Object.assign(this.canvas, { width, height });
      this.ratio = ratio;
      this.discs = this.image = null;
      this.tones.clear();
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
    this.isOld = true;
    this.wake();
  }

  private place(trip: FleetTrip, now: number): void {
    const { booking_id: id, longitude, latitude } = trip;
    if (longitude === null || latitude === null) return;
    const [toX, toY] = [worldX(longitude), worldY(latitude)];
    const dot = this.dots.get(id);
    if (dot === undefined) {
      this.dots.set(id, { trip, fromX: toX, fromY: toY, toX, toY, since: 0, drawnX: 0, drawnY: 0 });
      return;
    }
    const share = Math.min(1, (now - dot.since) / GLIDE_MS);
    const x = dot.fromX + (dot.toX - dot.fromX) * share;
    const y = dot.fromY + (dot.toY - dot.fromY) * share;
    const isNear = Math.abs(toX - x) + Math.abs(toY - y) < GLIDE_FARTHEST;
    Object.assign(dot, { trip, toX, toY, since: now, fromX: isNear ? x : toX, fromY: isNear ? y : toY });
  }

  private wake(): void {
    if (this.frame === 0 && document.visibilityState === "visible") {
      this.frame = requestAnimationFrame((at) => this.step(at));
    }
  }

  private step(at: number): void {
    this.frame = 0;
    if (at - this.last < FRAME_MS - JITTER_MS) return this.wake();
    this.last = at;
    if (this.show()) this.wake();
  }

  /** At once, whether or not anything has moved. */
  draw(): void {
    this.isOld = true;
    if (this.show()) this.wake();
  }

  /** Draw if the picture would be another one; true while something glides. */
  private show(): boolean {
    const { camera } = this;
    if (camera === null) return false;
    const isClustered = camera.zoom < CLUSTER_BELOW_ZOOM && this.dots.size > CLUSTER_FROM;
    const isGliding = !isClustered && this.glide(new Projection(camera), performance.now());
    if (this.isOld && isClustered) this.drawClusters(camera);
    else if (this.isOld) this.drawDots();
    this.isOld = false;
    return isGliding;
  }

  /** Move the dots to where they are now; true while they have not arrived. */
  private glide(to: Projection, now: number): boolean {
    const steps = STEPS * this.ratio;
    let isGliding = false;
    for (const dot of this.dots.values()) {
      let { toX: x, toY: y } = dot;
      const left = 1 - (now - dot.since) / GLIDE_MS;
      if (left > 0 && (dot.fromX !== x || dot.fromY !== y)) {
        isGliding = true;
        x += (dot.fromX - x) * left;
        y += (dot.fromY - y) * left;
      }
      const drawnX = Math.round(to.ofWorldX(x) * steps);
      const drawnY = Math.round(to.ofWorldY(y) * steps);
      if (drawnX === dot.drawnX && drawnY === dot.drawnY) continue;
      dot.drawnX = drawnX;
      dot.drawnY = drawnY;
      this.isOld = true;
    }
    return isGliding;
  }

  private drawDots(): void {
    const { context, ratio } = this;
    const { width, height } = this.canvas;
    this.discs ??= new Discs(width, height, DOT_PX * ratio);
    const { discs } = this;
    this.image ??= new ImageData(new Uint8ClampedArray(discs.pixels.buffer as ArrayBuffer), discs.stride);
    discs.clear();
    let selected: Dot | null = null;
    for (const dot of this.dots.values()) {
      if (!this.shown(dot.trip)) continue;
      discs.put(this.disc(discs, toneOf(dot.trip)), dot.drawnX, dot.drawnY);
      if (dot.trip.booking_id === this.selected) selected = dot;
    }
    const { margin } = discs;
    context.putImageData(this.image, -margin, -margin, margin, margin, width, height);
    if (selected !== null) this.ring(selected);
  }

  private disc(discs: Discs, tone: Tone): Disc {
    let disc = this.tones.get(tone);
    if (disc === undefined) {
      disc = discs.disc(this.colours[tone], this.colours.casing, CASING_PX * this.ratio);
      this.tones.set(tone, disc);
    }
    return disc;
  }

  private drawClusters(camera: Camera): void {
    const { context, ratio } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const members = [...this.dots.values()].filter(({ trip }) => this.shown(trip))
      .map(({ trip, toX, toY }) => ({ worldX: toX, worldY: toY, isWell: toneOf(trip) === "live" }));
    drawClusters(context, clustersOf(members, camera.zoom), camera, this.colours);
  }

  private ring({ drawnX, drawnY }: Dot): void {
    const { context, ratio } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.beginPath();
    context.arc(drawnX / STEPS / ratio, drawnY / STEPS / ratio, DOT_PX + 6, 0, 7);
    context.lineWidth = 3;
    context.strokeStyle = this.colours.selected;
    context.stroke();
  }

  /** The trip under a point of the screen. */
  at(x: number, y: number): FleetTrip | null {
    if (this.camera === null) return null;
    const to = new Projection(this.camera);
    let best: FleetTrip | null = null;
    let nearest = HIT_PX;
    for (const { trip, toX, toY } of this.dots.values()) {
      const away = Math.hypot(to.ofWorldX(toX) - x, to.ofWorldY(toY) - y);
      if (away < nearest && this.shown(trip)) [best, nearest] = [trip, away];
    }
    return best;
  }

  places(): { longitude: number; latitude: number }[] {
    return [...this.dots.values()].flatMap(({ trip: { longitude, latitude }, trip }) =>
      longitude !== null && latitude !== null && this.shown(trip) ? [{ longitude, latitude }] : []);
  }
}
