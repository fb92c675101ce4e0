// Web Mercator as the map draws it: a point's place on the screen for a camera that looks north.

export interface Place {
  longitude: number;
  latitude: number;
}

/** What is seen: centre, zoom (the world is 512 · 2^zoom pixels wide), size in CSS pixels. */
export interface Camera extends Place {
  zoom: number;
  width: number;
  height: number;
}

export interface Bounds {
  west: number;
  south: number;
  east: number;
  north: number;
}

export const TILE = 512;
const MAX_LATITUDE = 85.051129;
const EARTH_CIRCUMFERENCE_M = 40_075_016.686;
const EARTH_RADIUS_M = 6_371_008.8;

/** 0 to 1 from west to east. */
export const worldX = (longitude: number): number => (longitude + 180) / 360;

/** 0 to 1 from north to south. */
export function worldY(latitude: number): number {
  const clamped = Math.max(-MAX_LATITUDE, Math.min(MAX_LATITUDE, latitude));
  const sine = Math.sin((clamped * Math.PI) / 180);
  return 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI);
}

export const longitudeOf = (x: number): number => x * 360 - 180;

export const latitudeOf = (y: number): number =>
  (360 / Math.PI) * Math.atan(Math.exp((0.5 - y) * 2 * Math.PI)) - 90;

/** From places to pixels for one camera. */
export class Projection {
  readonly scale: number;
  private readonly centreX: number;
  private readonly left: number;
  private readonly top: number;

  constructor(camera: Camera) {
    this.scale = TILE * 2 ** camera.zoom;
    this.centreX = worldX(camera.longitude);
    this.left = camera.width / 2;
    this.top = camera.height / 2 - worldY(camera.latitude) * this.scale;
  }

  /** The nearest copy of the world: a trip may cross the 180th meridian. */
  x(longitude: number): number {
    return this.ofWorldX(worldX(longitude));
  }

  y(latitude: number): number {
    return this.ofWorldY(worldY(latitude));
  }

  /** For whoever keeps places as the world's: no sine and logarithm for each frame. */
  ofWorldX(x: number): number {
    const offset = x - this.centreX;
    return this.left + (offset - Math.round(offset)) * this.scale;
  }

  ofWorldY(y: number): number {
    return this.top + y * this.scale;
  }

  place(x: number, y: number): Place {
    return {
      longitude: longitudeOf(this.centreX + (x - this.left) / this.scale),
      latitude: latitudeOf((y - this.top) / this.scale),
    };
  }
}

export function metresPerPixel(camera: Camera): number {
  const parallel = Math.cos((camera.latitude * Math.PI) / 180);
  return (EARTH_CIRCUMFERENCE_M * parallel) / (TILE * 2 ** camera.zoom);
}

/** Along a great circle on the mean sphere: for what is shown, not for what is stored. */
export function metresBetween(a: Place, b: Place): number {
  const toRadians = Math.PI / 180;
  const latitude = Math.sin(((b.latitude - a.latitude) * toRadians) / 2);
  const longitude = Math.sin(((b.longitude - a.longitude) * toRadians) / 2);
  const chord =
    latitude ** 2 +
    Math.cos(a.latitude * toRadians) * Math.cos(b.latitude * toRadians) * longitude ** 2;
  return 2 * EARTH_RADIUS_M * Math.asin(Math.min(1, Math.sqrt(chord)));
}

/** The smallest box; null without a place. Longitudes are unwrapped around the first one. */
export function boundsOf(places: Iterable<Place>): Bounds | null {
  let bounds: Bounds | null = null;
  let first = 0;
  for (const { longitude, latitude } of places) {
    if (bounds === null) {
      first = longitude;
      bounds = { west: longitude, east: longitude, south: latitude, north: latitude };
      continue;
    }
    const near = longitude - 360 * Math.round((longitude - first) / 360);
    bounds.west = Math.min(bounds.west, near);
    bounds.east = Math.max(bounds.east, near);
    bounds.south = Math.min(bounds.south, latitude);
    bounds.north = Math.max(bounds.north, latitude);
  }
  return bounds;
}

const AROUND_DEGREES = 0.002; // 220 m

/** What is seen of a place, and of what is around it. */
export function around({ longitude, latitude }: Place): Place[] {
  const [away, wide] = [AROUND_DEGREES, AROUND_DEGREES / Math.cos((latitude * Math.PI) / 180)];
  return [
    { longitude: longitude - wide, latitude: latitude - away },
    { longitude: longitude + wide, latitude: latitude + away },
  ];
}

export interface Padding {
  top: number;
  right: number;
  bottom: number;
  left: number;
}

/** The camera that shows all of the box beside what covers the edges. */
export function fitted(
  bounds: Bounds,
  size: { width: number; height: number },
  padding: Padding,
  maxZoom: number,
): Camera {
  const top = worldY(bounds.north);
  const bottom = worldY(bounds.south);
  const wide = Math.max(worldX(bounds.east) - worldX(bounds.west), 1e-12);
  const high = Math.max(bottom - top, 1e-12);
  const free = {
    width: Math.max(size.width - padding.left - padding.right, 64),
    height: Math.max(size.height - padding.top - padding.bottom, 64),
  };
  const fits = Math.min(free.width / wide, free.height / high) / TILE;
  const zoom = Math.min(Math.log2(fits), maxZoom);
  const scale = TILE * 2 ** zoom;
  const x = (worldX(bounds.west) + worldX(bounds.east)) / 2;
  const y = (top + bottom) / 2;
  return {
    longitude: longitudeOf(x + (padding.right - padding.left) / 2 / scale),
    latitude: latitudeOf(y + (padding.bottom - padding.top) / 2 / scale),
    zoom,
    ...size,
  };
}
