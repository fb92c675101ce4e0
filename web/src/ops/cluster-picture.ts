// Clusters on a canvas: how many trips, and the share of those that nobody hears.

import { type Camera, Projection } from "../map/mercator.ts";
import type { Cluster } from "./clusters.ts";

const LONE_PX = 6;

export interface ClusterColours {
  live: string;
  stale: string;
  cluster: string;
  clusterText: string;
}

export function drawClusters(
  context: CanvasRenderingContext2D,
  clusters: readonly Cluster[],
  camera: Camera,
  colours: ClusterColours,
): void {
  const to = new Projection(camera);
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = "600 12px system-ui, sans-serif";
  context.lineWidth = 4;
  for (const { worldX, worldY, count, bad } of clusters) {
    const [x, y] = [to.ofWorldX(worldX), to.ofWorldY(worldY)];
    const radius = count === 1 ? LONE_PX : 12 + 6.4 * Math.log10(count);
    arc(context, x, y, radius, 0, 7);
    context.fillStyle = colours.cluster;
    context.fill();
    context.strokeStyle = colours.live;
    context.stroke();
    if (bad > 0) {
      const share = bad / count;
      arc(context, x, y, radius, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * share);
      context.strokeStyle = colours.stale;
      context.stroke();
    }
    if (count === 1) continue;
    context.fillStyle = colours.clusterText;
    context.fillText(String(count), x, y);
  }
}

function arc(
  context: CanvasRenderingContext2D, x: number, y: number, radius: number, from: number, to: number,
): void {
  context.beginPath();
  context.arc(x, y, radius, from, to);
}
