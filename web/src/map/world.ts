// The built-in base map's data: coasts and borders from Natural Earth, and the graticule.

import type * as GeoJSON from "geojson";
import { feature, mesh } from "topojson-client";
import worldUrl from "./generated/world.json?url";
import type { Bounds } from "./mercator.ts";

export interface World {
  land: GeoJSON.FeatureCollection;
  borders: GeoJSON.FeatureCollection;
  /** A point in the largest part of each country: of a thousand islands one has the name. */
  names: GeoJSON.FeatureCollection;
}

let loading: Promise<World> | null = null;

/** Loaded once; a failed load may be tried again. */
export function loadWorld(): Promise<World> {
  loading ??= load().catch((error: unknown) => {
    loading = null;
    throw error;
  });
  return loading;
}

async function load(): Promise<World> {
  const answer = await fetch(worldUrl);
  if (!answer.ok) throw new Error(`base map: HTTP ${answer.status}`);
  const topologies = Object.values((await answer.json()) as Record<string, never>);
  const land: GeoJSON.Feature[] = [];
  const borders: GeoJSON.Feature[] = [];
  for (const topology of topologies) {
    const { countries } = (topology as { objects: { countries: never } }).objects;
    const found = feature(topology, countries) as unknown as GeoJSON.FeatureCollection;
    found.features.forEach(({ geometry }) => unwrap(geometry));
    land.push(...found.features);
    // Of the mesh, not of the outlines: a border is drawn once, and no edge of a cut is one.
    const geometry = mesh(topology, countries, (a, b) => a !== b) as GeoJSON.Geometry;
    borders.push({ type: "Feature", properties: {}, geometry });
  }
  return {
    land: collection(land),
    borders: collection(borders),
    names: collection(land.map(nameOf)),
  };
}

/** An island on the 180th meridian goes on beyond it: else it is a band around the globe. */
function unwrap(geometry: GeoJSON.Geometry): void {
  const polygons =
    geometry.type === "MultiPolygon" ? geometry.coordinates
    : geometry.type === "Polygon" ? [geometry.coordinates] : [];
  for (const ring of polygons.flat()) {
    const turned = ring.map(([x = 0]) => x);
    for (let index = 1; index < turned.length; index++) {
      turned[index]! -= 360 * Math.round((turned[index]! - turned[index - 1]!) / 360);
    }
    // One that ends elsewhere goes around a pole: it is drawn from edge to edge as it is.
    if (turned[0] !== turned.at(-1)) continue;
    ring.forEach((point, index) => { point[0] = turned[index]!; });
  }
}

function nameOf({ geometry, properties }: GeoJSON.Feature): GeoJSON.Feature {
  const polygons =
    geometry.type === "MultiPolygon" ? geometry.coordinates
    : geometry.type === "Polygon" ? [geometry.coordinates] : [];
  let coordinates = [0, 0];
  let largest = -1;
  for (const [ring = []] of polygons) {
    const xs = ring.map(([x = 0]) => x);
    const ys = ring.map(([, y = 0]) => y);
    const [west, east] = [Math.min(...xs), Math.max(...xs)];
    const [south, north] = [Math.min(...ys), Math.max(...ys)];
    const size = (east - west) * (north - south);
    if (size > largest) [largest, coordinates] = [size, [(west + east) / 2, (south + north) / 2]];
  }
  return { type: "Feature", properties, geometry: { type: "Point", coordinates } };
}

export function collection(features: GeoJSON.Feature[]): GeoJSON.FeatureCollection {
  return { type: "FeatureCollection", features };
}

const MOST_LINES = 40;

/** Meridians and parallels around what is seen, each with its name. */
export function graticule(bounds: Bounds, zoom: number): GeoJSON.FeatureCollection {
  const step = zoom < 5 ? 10 : zoom < 9 ? 1 : zoom < 12.5 ? 0.1 : 0.01;
  const features: GeoJSON.Feature[] = [];
  const west = Math.floor(bounds.west / step);
  const south = Math.floor(Math.max(bounds.south, -80) / step);
  const east = Math.min(Math.ceil(bounds.east / step), west + MOST_LINES);
  const north = Math.min(Math.ceil(Math.min(bounds.north, 80) / step), south + MOST_LINES);
  const digits = step >= 1 ? 0 : step >= 0.1 ? 1 : 2;
  for (let index = west; index <= east; index++) {
    const at = index * step;
    const points = [[at, south * step], [at, north * step]];
    features.push(line(points, degrees(at, digits, "E", "W")));
  }
  for (let index = south; index <= north; index++) {
    const at = index * step;
    const points = [[west * step, at], [east * step, at]];
    features.push(line(points, degrees(at, digits, "N", "S")));
  }
  return collection(features);
}

function line(coordinates: number[][], name: string): GeoJSON.Feature {
  return { type: "Feature", properties: { name }, geometry: { type: "LineString", coordinates } };
}

function degrees(at: number, digits: number, positive: string, negative: string): string {
  const wrapped = positive === "E" ? at - 360 * Math.round(at / 360) : at;
  return `${Math.abs(wrapped).toFixed(digits)}°${wrapped < 0 ? negative : positive}`;
}
