// What lies under the overlay: a map of MapLibre's, or a plain one where there is no WebGL.

import type { Bounds, Camera, Padding, Place } from "./mercator.ts";

export interface BaseMapEvents {
  /** The camera of the picture that is on the screen from now on. */
  moved(camera: Camera): void;
  /** All of a picture is there: the first, perhaps before whoever opened the map has got it, and
   *  each that the map comes to rest with. */
  drawn(isWhole: boolean): void;
  /** Somebody has dragged, zoomed or scrolled: following ends. */
  touched(): void;
}

export interface BaseMap {
  readonly camera: Camera;
  /** False for what stands in for a map that could not be had. */
  readonly isWhole: boolean;
  /** Show all of it; at once without `animate`. */
  fit(bounds: Bounds, padding: Padding, animate: boolean): void;
  centre(place: Place, padding: Padding, animate: boolean): void;
  zoomBy(steps: number): void;
  /** Dark or light has changed. */
  restyle(): void;
  /** False when it has died unseen, as workers of hidden pages do. */
  isAlive(): Promise<boolean>;
  remove(): void;
}

/** Of all cities that the company drives in; for a trip without a position. */
export const HOME: Bounds = { west: 95, south: -11, east: 141, north: 8 };
export const CLOSEST_ZOOM = 16.5;
