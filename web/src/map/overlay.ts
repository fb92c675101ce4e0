// What is drawn over the map: the route, the marker, where the trip begins and ends. Two canvases,
// so that a gliding marker repaints neither the map nor the route.

import type { Fix } from "service-tracking-client";
import type { Leg } from "../trip/legs.ts";
import { type Camera, type Place, Projection } from "./mercator.ts";
import { ScaleBar } from "./scale-bar.ts";

/** The colours of a theme, as CSS. */
export interface Palette {
  route: string;
  casing: string;
  gap: string;
  marker: string;
  markerStale: string;
  ring: string;
  halo: string;
  text: string;
  pickup: string;
  dropoff: string;
}

export interface MarkerState extends Place {
  headingDegrees: number | null;
  /** Between 0 and 1: a marker that has jumped appears. */
  opacity: number;
  /** The newest fix is old, or nobody hears the runner. */
  isStale: boolean;
  ring: Place | null;
}

export interface Ends {
  pickup: Place | null;
  dropoff: Place | null;
}

const ROUTE_PX = 5;
const CASING_PX = 8;
const DASH = [2, 9];
const MARKER_PX = 11;

/** Draws a scene for whatever camera; owns nothing of the map. */
export class Overlay {
  /** `drawn()` tells what is on the canvas: who looks for a missing point cannot read pixels. */
  readonly element = Object.assign(document.createElement("div"), { drawn: () => this.drawn() });
  private readonly still = new Layer();
  private readonly moving = new Layer();
  private readonly scale = new ScaleBar();
  private legs: readonly Leg[] = [];
  private drawnLegs: readonly Leg[] = [];
  private untilAt = Number.POSITIVE_INFINITY;
  private ends: Ends = { pickup: null, dropoff: null };
  private place: Place | null = null;
  private marker: MarkerState | null = null;
  private camera: Camera | null = null;
  private tailFrom: Place | null = null;

  constructor(private palette: Palette) {
    this.element.className = "overlay";
    this.element.setAttribute("aria-hidden", "true");
    this.element.append(this.still.canvas, this.moving.canvas, this.scale.element);
  }

  setPalette(palette: Palette): void {
    this.palette = palette;
    this.drawAll();
  }

  setCamera(camera: Camera): void {
    this.camera = camera;
    this.still.resize(camera);
    this.moving.resize(camera);
    this.scale.setCamera(camera);
    this.drawAll();
  }

  setEnds(ends: Ends): void {
    this.ends = ends;
    this.drawStill();
  }

  /** A stop that somebody asks for; null: none. */
  setPlace(place: Place | null): void {
    this.place = place;
    this.drawStill();
  }

  /** The route; its legs beyond the recorded time under the marker are not drawn yet. */
  setRoute(legs: readonly Leg[], untilAt: number): void {
    this.legs = legs;
    this.untilAt = untilAt;
    this.drawStill();
  }

  /** The marker has come past further fixes. True if the route was drawn anew. */
  advance(untilAt: number): boolean {
    const passed = this.legs.some((leg) => leg.to.at > this.untilAt && leg.to.at <= untilAt);
    const back = untilAt < this.untilAt && Number.isFinite(this.untilAt);
    if (passed || back) {
      this.untilAt = untilAt;
      this.drawStill();
    }
    return passed || back;
  }

  setMarker(marker: MarkerState | null): void {
    this.marker = marker;
    this.drawMoving();
  }

  /** The waypoints along the line that was drawn last, its gaps, a stop, and where the marker stands. */
  private drawn(): {
    route: Fix[]; gaps: [number, number][]; place: Place | null; marker: MarkerState | null;
  } {
    const begin = this.drawnLegs.slice(0, 1).map((leg) => leg.from);
    return {
      route: [...begin, ...this.drawnLegs.map((leg) => leg.to)],
      gaps: this.drawnLegs.filter((leg) => leg.isGap).map(({ from, to }) => [from.seq, to.seq]),
      place: this.place,
      marker: this.marker,
    };
  }

  private drawAll(): void {
    this.drawStill();
    this.drawMoving();
  }

  private drawStill(): void {
    const { camera, palette } = this;
    if (camera === null) return;
    const context = this.still.begin();
    const projection = new Projection(camera);
    const drawn = this.legs.filter((leg) => leg.to.at <= this.untilAt);
    this.drawnLegs = drawn;
    this.tailFrom = drawn.at(-1)?.to ?? this.legs[0]?.from ?? null;
    strokeLegs(context, projection, drawn, false, palette.casing, CASING_PX, []);
    strokeLegs(context, projection, drawn, true, palette.gap, ROUTE_PX - 1, DASH);
    strokeLegs(context, projection, drawn, false, palette.route, ROUTE_PX, []);
    if (this.ends.pickup) pin(context, projection, this.ends.pickup, palette.pickup, palette);
    if (this.ends.dropoff) flag(context, projection, this.ends.dropoff, palette.dropoff, palette);
    if (this.place) target(context, projection, this.place, palette);
  }

  private drawMoving(): void {
    const { camera, marker, palette } = this;
    if (camera === null) return;
    const context = this.moving.begin();
    if (marker === null) return;
    const projection = new Projection(camera);
    const x = projection.x(marker.longitude);
    const y = projection.y(marker.latitude);
    this.drawTail(context, projection, x, y);
    if (marker.ring !== null) {
      context.beginPath();
      context.arc(projection.x(marker.ring.longitude), projection.y(marker.ring.latitude), 6, 0, 7);
      context.lineWidth = 2.5;
      context.strokeStyle = palette.ring;
      context.stroke();
    }
    context.globalAlpha = marker.opacity;
    drawMarker(context, x, y, marker, palette);
    context.globalAlpha = 1;
  }

  /** From the last fix that the marker has passed to the marker; not across a gap. */
  private drawTail(
    context: CanvasRenderingContext2D,
    projection: Projection,
    x: number,
    y: number,
  ): void {
    const next = this.legs.find((leg) => leg.to.at > this.untilAt);
    if (this.tailFrom === null || next === undefined || next.isGap) return;
    context.beginPath();
    context.moveTo(projection.x(this.tailFrom.longitude), projection.y(this.tailFrom.latitude));
    context.lineTo(x, y);
    context.lineCap = "round";
    context.lineWidth = ROUTE_PX;
    context.strokeStyle = this.palette.route;
    context.stroke();
  }
}

/** A canvas in the size of its camera, in device pixels. */
class Layer {
  readonly canvas = document.createElement("canvas");
  // Drawn by the CPU, and kept there: with a GPU away this is the faster way by far.
  private readonly context = this.canvas.getContext("2d", { willReadFrequently: true })!;
  private ratio = 1;

  resize({ width, height }: Camera): void {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const pixels = { width: Math.round(width * ratio), height: Math.round(height * ratio) };
    if (this.canvas.width === pixels.width && this.canvas.height === pixels.height) return;
    this.ratio = ratio;
    Object.assign(this.canvas, pixels);
  }

  /** Empty, in CSS pixels. */
  begin(): CanvasRenderingContext2D {
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    return this.context;
  }
}

function strokeLegs(
  context: CanvasRenderingContext2D,
  projection: Projection,
  legs: readonly Leg[],
  gaps: boolean,
  colour: string,
  width: number,
  dash: number[],
): void {
  context.beginPath();
  let end: object | null = null;
  for (const leg of legs) {
    if (leg.isGap !== gaps) continue;
    if (leg.from !== end) {
      context.moveTo(projection.x(leg.from.longitude), projection.y(leg.from.latitude));
    }
    context.lineTo(projection.x(leg.to.longitude), projection.y(leg.to.latitude));
    end = leg.to;
  }
  context.lineJoin = context.lineCap = "round";
  context.setLineDash(dash);
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke();
  context.setLineDash([]);
}

/** A round dot; with a nose where the direction of the way is known. */
function drawMarker(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  { headingDegrees, isStale }: MarkerState,
  palette: Palette,
): void {
  context.save();
  context.translate(x, y);
  context.beginPath();
  context.arc(0, 0, MARKER_PX + 7, 0, 7);
  context.fillStyle = palette.halo;
  context.fill();
  if (headingDegrees !== null) {
    context.save();
    context.rotate((headingDegrees * Math.PI) / 180);
    context.beginPath();
    context.moveTo(0, -MARKER_PX - 10);
    context.lineTo(8, -MARKER_PX + 2);
    context.lineTo(-8, -MARKER_PX + 2);
    context.closePath();
    context.fillStyle = isStale ? palette.markerStale : palette.marker;
    context.fill();
    context.restore();
  }
  context.beginPath();
  context.arc(0, 0, MARKER_PX, 0, 7);
  context.fillStyle = isStale ? palette.markerStale : palette.marker;
  context.fill();
  context.lineWidth = 3;
  context.strokeStyle = palette.casing;
  context.stroke();
  paw(context, palette.casing);
  context.restore();
}

function paw(context: CanvasRenderingContext2D, colour: string): void {
  context.fillStyle = colour;
  for (const [x, y, r] of [[-4.2, -1, 1.7], [-1.5, -4, 1.8], [1.5, -4, 1.8], [4.2, -1, 1.7]]) {
    context.beginPath();
    context.arc(x!, y!, r!, 0, 7);
    context.fill();
  }
  context.beginPath();
  context.ellipse(0, 2.6, 3.4, 2.8, 0, 0, 7);
  context.fill();
}

function pin(
  context: CanvasRenderingContext2D,
  projection: Projection,
  place: Place,
  colour: string,
  palette: Palette,
): void {
  context.beginPath();
  context.arc(projection.x(place.longitude), projection.y(place.latitude), 7, 0, 7);
  context.fillStyle = palette.casing;
  context.fill();
  context.lineWidth = 4;
  context.strokeStyle = colour;
  context.stroke();
}

/** A wide ring: what is in the place can still be seen. */
function target(
  context: CanvasRenderingContext2D, projection: Projection, place: Place, palette: Palette,
): void {
  for (const [colour, width] of [[palette.casing, 8], [palette.ring, 4]] as const) {
    context.beginPath();
    context.arc(projection.x(place.longitude), projection.y(place.latitude), 20, 0, 7);
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }
}

function flag(
  context: CanvasRenderingContext2D,
  projection: Projection,
  place: Place,
  colour: string,
  palette: Palette,
): void {
  const x = projection.x(place.longitude);
  const y = projection.y(place.latitude);
  context.beginPath();
  context.moveTo(x, y);
  context.bezierCurveTo(x - 3, y - 8, x - 10, y - 12, x - 10, y - 19);
  context.arc(x, y - 19, 10, Math.PI, 0);
  context.bezierCurveTo(x + 10, y - 12, x + 3, y - 8, x, y);
  context.fillStyle = colour;
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = palette.casing;
  context.stroke();
  context.beginPath();
  context.arc(x, y - 19, 4, 0, 7);
  context.fillStyle = palette.casing;
  context.fill();
}
