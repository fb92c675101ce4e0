// The pages' words for a trip that is over: shown again, and taken away as a file.

import { words } from "./words.ts";

export interface AfterWords {
  replay: string;
  play: string;
  speed: string;
  time: string;
  silent(duration: string): string;
  replayFailed: string;
  download: string;
  /** What each format is for. */
  formats: Record<string, string>;
  receipt: string;
  loading: string;
  loaded(name: string): string;
  gone: string;
  notYet: string;
  failed: string;
}

const EN: AfterWords = {
  replay: "Show the trip again",
  play: "Play",
  speed: "Speed of the replay",
  time: "Time of the trip",
  silent: (duration) => `${duration} without a position`,
  replayFailed: "The trip cannot be shown again just now.",
  download: "Download",
  formats: {
    geojson: "GeoJSON, for maps on the web",
    gpx: "GPX, for sports and navigation apps",
    kml: "KML, for Google Earth",
    csv: "CSV, for tables",
  },
  receipt: "Receipt, signed: proves that the route is unchanged",
  loading: "Loading …",
  loaded: (name) => `${name} is there`,
  gone: "The route was deleted for its age.",
  notYet: "It is not ready yet. Please try again in a minute.",
  failed: "That did not work. Please try again.",
};

const ID: AfterWords = {
  replay: "Tampilkan ulang perjalanan",
  play: "Putar",
  speed: "Kecepatan putar ulang",
  time: "Waktu perjalanan",
  silent: (duration) => `${duration} tanpa posisi`,
  replayFailed: "Perjalanan sekarang tidak dapat ditampilkan ulang.",
  download: "Unduh",
  formats: {
    geojson: "GeoJSON, untuk peta di web",
    gpx: "GPX, untuk aplikasi olahraga dan navigasi",
    kml: "KML, untuk Google Earth",
    csv: "CSV, untuk tabel",
  },
  receipt: "Tanda terima bertanda tangan: bukti bahwa rute tidak diubah",
  loading: "Memuat …",
  loaded: (name) => `${name} sudah ada`,
  gone: "Rute sudah dihapus karena usianya.",
  notYet: "Belum siap. Silakan coba lagi sebentar lagi.",
  failed: "Tidak berhasil. Silakan coba lagi.",
};

export const afterTheTrip = words.language === "id" ? ID : EN;
