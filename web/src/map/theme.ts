// The two themes of everything that is drawn by script; the pages' own colours are in page.css.

import type { Palette } from "./overlay.ts";

export interface MapColours {
  sea: string;
  land: string;
  border: string;
  graticule: string;
  label: string;
  labelHalo: string;
  park: string;
  water: string;
  street: string;
  mainStreet: string;
  casing: string;
  building: string;
}

export interface Theme {
  map: MapColours;
  overlay: Palette;
}

export const LIGHT: Theme = {
  map: {
    sea: "#d3e3ee", land: "#f5f2ea", border: "#c4bba9", graticule: "#b9cbd9", label: "#5b6672",
    labelHalo: "#ffffff", park: "#cfe5c2", water: "#b4d3e8", street: "#ffffff",
    mainStreet: "#fff3d0", casing: "#d8d0bf", building: "#e6e0d3",
  },
  overlay: {
    route: "#3657d6", casing: "#ffffff", gap: "#6f7fb8", marker: "#e4572e", markerStale: "#7a8088",
    ring: "#e4572e", halo: "rgba(20, 30, 60, 0.18)", text: "#1c2430", pickup: "#2f8f5b",
    dropoff: "#7a3fc9",
  },
};

export const DARK: Theme = {
  map: {
    sea: "#0e1621", land: "#1b2431", border: "#3b4a5f", graticule: "#26364a", label: "#97a6b8",
    labelHalo: "#101822", park: "#1f3a2d", water: "#17314a", street: "#33415a",
    mainStreet: "#4a5068", casing: "#141c28", building: "#222d3d",
  },
  overlay: {
    route: "#7c9bff", casing: "#0f1722", gap: "#6d80b8", marker: "#ff7a52", markerStale: "#8b949e",
    ring: "#ffb199", halo: "rgba(255, 255, 255, 0.16)", text: "#e8eef6", pickup: "#5fd08f",
    dropoff: "#c08bff",
  },
};

const dark = window.matchMedia("(prefers-color-scheme: dark)");

export const theme = (): Theme => (dark.matches ? DARK : LIGHT);

export function onThemeChange(listener: () => void): () => void {
  dark.addEventListener("change", listener);
  return () => dark.removeEventListener("change", listener);
}
