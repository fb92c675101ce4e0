// Trips from far away: how many there are, and how many of them nobody hears.

import { TILE } from "../map/mercator.ts";

const CELL_PX = 56;

/** A trip on the map: its place between 0 and 1 in the world, and whether all is well. */
export interface Member {
  worldX: number;
  worldY: number;
  isWell: boolean;
}

export interface Cluster {
  worldX: number;
  worldY: number;
  count: number;
  bad: number;
}

/** Cells stand on the globe, not on the screen: a cluster does not flicker while the map moves. */
export function clustersOf(members: Iterable<Member>, zoom: number): Cluster[] {
  const cell = CELL_PX / (TILE * 2 ** Math.floor(zoom));
  const cells = new Map<string, Cluster>();
  for (const { worldX, worldY, isWell } of members) {
    const key = `${Math.floor(worldX / cell)} ${Math.floor(worldY / cell)}`;
    let found = cells.get(key);
    if (found === undefined) cells.set(key, (found = { worldX: 0, worldY: 0, count: 0, bad: 0 }));
    found.count += 1;
    found.worldX += (worldX - found.worldX) / found.count;
    found.worldY += (worldY - found.worldY) / found.count;
    if (!isWell) found.bad += 1;
  }
  return [...cells.values()];
}
